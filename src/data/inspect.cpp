// `finetune inspect`: figures first (inspect_data), then two ways to write them. The text of a
// document is put together from its tokens' own bytes, so that what is shown as trained is what
// carries loss, after truncation and splitting, and not what a template meant. A character that
// several tokens share shows with the last of them.
#include "data/inspect.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <sstream>

#include "base/error.h"

namespace ft {
namespace {

constexpr size_t kFirstRows = 10;

/// The bytes of the text that tokens stand for, one string a token. Bytes that no token covers go
/// to the next one; a character cut by a token border goes to the token that ends it.
std::vector<std::string> token_texts(const Document& document) {
  const std::string& text = document.rendered;
  std::vector<std::string> texts;
  size_t done = document.offsets.empty() ? 0 : document.offsets[0].begin;
  for (const Span& span : document.offsets) {
    size_t end = std::min(std::max(span.end, done), text.size());
    while (end > done && end < text.size() && (text[end] & 0xc0) == 0x80) --end;
    texts.push_back(text.substr(done, end - done));
    done = end;
  }
  return texts;
}

ShownDocument show(const Document& document, const Row& row, const Tokenizer* tokenizer) {
  ShownDocument shown;
  shown.where = row.where;
  std::vector<std::string> texts = token_texts(document);
  const Example& example = document.example;
  for (size_t i = 0; i < example.ids.size(); ++i) {
    ShownToken token{.id = example.ids[i],
                     .piece = tokenizer ? tokenizer->piece(example.ids[i]) : "",
                     .text = i < texts.size() ? std::move(texts[i]) : "",
                     .is_trained = example.labels[i] != kIgnore};
    // Data in the tokens format has no text of its own, and BOS stands for no byte of a text.
    if (token.text.empty() && tokenizer &&
        (document.offsets.empty() || tokenizer->is_special(token.id)))
      token.text = token.piece;
    shown.num_targets += token.is_trained;
    shown.tokens.push_back(std::move(token));
  }
  return shown;
}

int64_t percentile(const std::vector<int64_t>& sorted, double share) {
  if (sorted.empty()) return 0;
  const double rank = std::ceil(share * static_cast<double>(sorted.size()));
  return sorted[static_cast<size_t>(std::max(rank, 1.0)) - 1];
}

/// Bins that double in width: lengths of text are spread over orders of magnitude.
std::vector<LengthBin> make_histogram(const std::vector<int64_t>& sorted) {
  std::vector<LengthBin> bins;
  for (const int64_t length : sorted) {
    while (bins.empty() || length >= bins.back().high) {
      const int64_t low = bins.empty() ? 0 : bins.back().high;
      bins.push_back({low, low == 0 ? 16 : 2 * low, 0});
    }
    ++bins.back().count;
  }
  const auto first = std::find_if(bins.begin(), bins.end(), [](auto& b) { return b.count > 0; });
  bins.erase(bins.begin(), first);
  return bins;
}

void add_packing(Inspection& out, const RunConfig& config, const Dataset& data) {
  std::vector<Example> examples;
  for (const Document& document : data.documents) examples.push_back(document.example);
  const Window window(examples, config);
  out.is_packed = config.data.packing;
  out.max_length = config.data.max_length;
  out.num_rows = window.num_rows();
  out.steps_per_epoch = window.num_steps();
  out.occupancy = window.occupancy();
  for (const auto& row : window.rows()) {
    out.most_documents_in_a_row =
        std::max(out.most_documents_in_a_row, static_cast<int64_t>(row.size()));
    if (out.first_rows.size() == kFirstRows) continue;
    auto& lengths = out.first_rows.emplace_back();
    for (const int64_t i : row)
      lengths.push_back(static_cast<int64_t>(examples[static_cast<size_t>(i)].ids.size()));
  }
}

Json counts_json(const DataCounts& counts) {
  Json json = Json::Object{};
  for (const auto& [name, member] : kDataCounts) json.set(name, counts.*member);
  return json;
}

Json document_json(const ShownDocument& document) {
  Json::Array ids, pieces, texts, trained;
  std::string whole;
  for (const ShownToken& token : document.tokens) {
    ids.emplace_back(static_cast<int64_t>(token.id));
    pieces.emplace_back(token.piece);
    trained.emplace_back(token.is_trained ? 1 : 0);
    whole += token.text;
  }
  return Json::Object{{"where", document.where},       {"text", std::move(whole)},
                      {"ids", std::move(ids)},         {"tokens", std::move(pieces)},
                      {"trained", std::move(trained)}, {"target_tokens", document.num_targets}};
}

/// Control bytes of data must not reach a terminal; newlines and tabs may.
std::string safe_text(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte == 0x7f || (byte < 0x20 && c != '\n' && c != '\t')) {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\x%02x", byte);
      out += escaped;
    } else {
      out += c;
    }
  }
  return out;
}

void write_document(std::ostream& out, const ShownDocument& document, size_t number, bool color) {
  out << "--- document " << number << " (" << printable(document.where)
      << "): " << document.tokens.size() << " tokens, " << document.num_targets << " trained\n";
  bool is_on = false;
  const auto turn = [&](bool on) {
    if (on != is_on) out << (color ? (on ? "\033[32m" : "\033[0m") : (on ? "{+" : "+}"));
    is_on = on;
  };
  for (const ShownToken& token : document.tokens) {
    turn(token.is_trained);
    out << safe_text(token.text);
  }
  turn(false);
  out << "\nids (trained ones marked *):";
  for (const ShownToken& token : document.tokens)
    out << ' ' << token.id << (token.is_trained ? "*" : "");
  out << "\n\n";
}

void write_counts(std::ostream& out, std::string_view name, const DataCounts& counts) {
  out << name << ": " << counts.rows << " rows, " << counts.examples << " examples, "
      << counts.tokens << " tokens, " << counts.targets << " of them trained\n"
      << "  over data.max_length: " << counts.truncated << " truncated, " << counts.dropped
      << " dropped, " << counts.split << " split, " << counts.tokens_lost << " tokens lost\n"
      << "  without trained tokens, left out: " << counts.no_targets << "\n";
}

void write_histogram(std::ostream& out, const Inspection& in) {
  out << "tokens per row of data: shortest " << in.shortest << ", median " << in.median
      << ", 90th percentile " << in.percentile_90 << ", longest " << in.longest << "\n";
  int64_t most = 1;
  for (const LengthBin& bin : in.histogram) most = std::max(most, bin.count);
  for (const LengthBin& bin : in.histogram) {
    const auto width = static_cast<size_t>((bin.count * 50 + most - 1) / most);
    out << std::setw(9) << bin.low << " to " << std::setw(8) << bin.high - 1 << std::setw(9)
        << bin.count << "  " << std::string(width, '#') << "\n";
  }
}

}  // namespace

Inspection inspect_data(const RunConfig& config, WindowCut& cut, const Dataset& data,
                        const Dataset* eval, const Tokenizer* tokenizer, int64_t num_shown) {
  const Rows rows = cut.rows(0, 0);
  Inspection out;
  out.num_windows = cut.num_windows();
  out.format = data.format;
  out.train = data.counts;
  if (eval) out.eval = eval->counts;
  const size_t shown =
      std::min(data.documents.size(), static_cast<size_t>(std::max<int64_t>(num_shown, 0)));
  for (size_t i = 0; i < shown; ++i)
    out.documents.push_back(
        show(data.documents[i], rows[static_cast<size_t>(data.row_of[i])], tokenizer));
  add_packing(out, config, data);
  out.steps_per_epoch = cut.estimate(out.steps_per_epoch);
  out.num_steps = num_steps(config, out.steps_per_epoch);
  std::vector<int64_t> lengths = data.lengths;
  std::sort(lengths.begin(), lengths.end());
  out.shortest = percentile(lengths, 0);
  out.median = percentile(lengths, 0.5);
  out.percentile_90 = percentile(lengths, 0.9);
  out.longest = percentile(lengths, 1);
  out.histogram = make_histogram(lengths);
  return out;
}

Json inspection_json(const Inspection& in) {
  Json::Array documents, histogram, first_rows;
  for (const ShownDocument& document : in.documents) documents.push_back(document_json(document));
  for (const LengthBin& bin : in.histogram)
    histogram.push_back(Json::Object{{"from", bin.low}, {"below", bin.high}, {"count", bin.count}});
  for (const auto& row : in.first_rows) first_rows.push_back(Json::Array(row.begin(), row.end()));
  return Json::Object{
      {"format", in.format},
      {"windows", in.num_windows},
      {"counts", counts_json(in.train)},
      {"eval_counts", in.eval.rows > 0 ? counts_json(in.eval) : Json()},
      {"documents", std::move(documents)},
      {"packing", Json::Object{{"packing", in.is_packed},
                               {"max_length", in.max_length},
                               {"rows", in.num_rows},
                               {"occupancy", in.occupancy},
                               {"most_documents_in_a_row", in.most_documents_in_a_row},
                               {"first_rows", std::move(first_rows)},
                               {"steps_per_epoch", in.steps_per_epoch},
                               {"steps", in.num_steps}}},
      {"lengths", Json::Object{{"shortest", in.shortest},
                               {"median", in.median},
                               {"percentile_90", in.percentile_90},
                               {"longest", in.longest},
                               {"histogram", std::move(histogram)}}}};
}

std::string inspection_text(const Inspection& in, bool color) {
  std::ostringstream out;
  for (size_t i = 0; i < in.documents.size(); ++i)
    write_document(out, in.documents[i], i + 1, color);
  out << "format: " << in.format << "\n";
  if (in.num_windows > 1)
    out << "the data goes through memory in " << in.num_windows
        << " windows; what follows is of the first one, the steps are an estimate\n";
  write_counts(out, "train", in.train);
  if (in.eval.rows > 0) write_counts(out, "eval", in.eval);
  out << "rows of the model: " << in.num_rows << " of up to " << in.max_length << " tokens, "
      << std::fixed << std::setprecision(1) << 100 * in.occupancy << " % filled"
      << (in.is_packed ? "" : " (no packing)") << ", at most " << in.most_documents_in_a_row
      << " documents in one\n";
  for (const auto& row : in.first_rows) {
    out << "  [";
    for (size_t i = 0; i < row.size(); ++i) out << (i > 0 ? " " : "") << row[i];
    out << "]\n";
  }
  if (static_cast<size_t>(in.num_rows) > in.first_rows.size()) out << "  ...\n";
  out << "steps: " << in.steps_per_epoch << " an epoch, " << in.num_steps << " in all\n";
  write_histogram(out, in);
  return out.str();
}

}  // namespace ft
