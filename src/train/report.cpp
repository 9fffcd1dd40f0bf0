#include "train/report.h"

#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "train/chart.h"
#include "train/metrics.h"

namespace ft {
namespace {

constexpr double kNotANumber = std::numeric_limits<double>::quiet_NaN();

// Blue and orange stay apart for colour-blind readers; a: raw, b: smoothed, c: evaluation.
constexpr std::string_view kStyle = R"(<style>
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--text:#1d2430;--muted:#667085;--line:#e3e7ed;
--a:#a9c6ee;--b:#1f66c1;--c:#d9730d}
@media(prefers-color-scheme:dark){:root{--bg:#12151a;--card:#1b2027;--text:#e4e8ee;--muted:#97a1b0;
--line:#2d343e;--a:#41699f;--b:#6fabf5;--c:#f0994a}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1240px;padding:24px 20px 60px;background:var(--bg);color:var(--text);
font:15px/1.5 system-ui,sans-serif}
h1{font-size:24px;margin:0;overflow-wrap:anywhere}h2{font-size:18px;margin:32px 0 10px}
.muted{color:var(--muted)}p{margin:4px 0 16px}
figure,dl,article,pre.card{margin:0;background:var(--card);border:1px solid var(--line);
border-radius:8px;padding:12px 14px}
.charts{display:grid;gap:14px;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr))}
dl{display:grid;gap:12px 20px;grid-template-columns:repeat(auto-fill,minmax(170px,1fr))}
dt{color:var(--muted);font-size:13px}dd{margin:0;font-size:17px;font-variant-numeric:tabular-nums}
figcaption{font-size:13px;margin-bottom:6px}
.key{margin-left:10px;color:var(--muted)}.key:before{content:"";display:inline-block;width:12px;
height:4px;border-radius:2px;margin:0 5px 3px 0;background:var(--k)}
svg{display:block;width:100%;height:auto}svg text{font-size:11px;fill:var(--muted)}
.end{text-anchor:end}.mid{text-anchor:middle}.grid{stroke:var(--line)}
.a{--k:var(--a)}.b{--k:var(--b)}.c{--k:var(--c)}
.line{fill:none;stroke:var(--k);stroke-width:1.8;stroke-linecap:round;stroke-linejoin:round}
.a .line{stroke-width:1.2}circle{fill:var(--k);stroke:var(--card)}
article{margin-bottom:14px}article h3{font-size:13px;margin:0 0 4px;color:var(--muted);font-weight:600}
.pair{display:grid;gap:14px;grid-template-columns:repeat(auto-fit,minmax(min(100%,360px),1fr));
margin-top:10px}
pre{margin:0;font:13px/1.5 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere;
max-height:320px;overflow:auto}pre.card{max-height:none}
@media print{pre{max-height:none}}
</style>
)";

/// What metrics.jsonl holds, as curves over steps.
struct Run {
  std::map<std::string, std::vector<Point>> train, eval;
  double seconds = 0;
  std::optional<Json> summary;
};

void add(std::vector<Point>& points, const Json& line, std::string_view key, double scale = 1) {
  const Json* value = line.get_set(key);
  const double y = value && value->is_number() ? value->number() * scale : kNotANumber;
  points.push_back({get_double(line, "step", "metrics.jsonl").value_or(0), y});
}

Run read_run(std::string_view metrics) {
  Run run;
  int64_t number = 0;
  for (const std::string& text : whole_lines(metrics)) {
    const std::string where = str("metrics.jsonl:", ++number);
    const Json line = parse_metrics_line(text, where);
    const std::string type = get_string(line, "type", where).value_or("");
    if (type == "train") {
      for (const char* key : {"loss", "learning_rate", "grad_norm", "tokens_per_second", "epoch"})
        add(run.train[key], line, key);
      add(run.train["tokens"], line, "tokens");
      add(run.train["memory"], line, "memory_bytes", 1 / 0x1p30);
      run.seconds += get_double(line, "step_seconds", where).value_or(0);
    } else if (type == "eval") {
      for (const char* key : {"loss", "perplexity"}) add(run.eval[key], line, key);
      run.seconds += get_double(line, "seconds", where).value_or(0);
    } else if (type == "summary") {
      run.summary = line;
    }
  }
  return run;
}

/// A count with thin spaces between groups of three digits.
std::string count_text(double value) {
  if (!std::isfinite(value)) return number_text(value);
  std::string text = str(std::llround(value));
  for (size_t at = text.size(); at > 3;) text.insert(at -= 3, "&#8239;");
  return text;
}

std::string summary_html(Run& run) {
  std::string out = "<dl>";
  const auto row = [&](const char* name, const std::string& value) {
    out += str("<div><dt>", name, "</dt><dd>", value, "</dd></div>");
  };
  const auto& loss = run.train["loss"];
  if (!loss.empty()) {
    const double tokens = run.train["tokens"].back().y;
    double seconds = run.seconds, peak = 0;
    if (run.summary)
      seconds = get_double(*run.summary, "seconds", "metrics.jsonl").value_or(seconds);
    for (const Point& p : run.train["memory"]) peak = std::max(peak, p.y);
    row("steps", count_text(loss.back().x));
    row("epochs", number_text(run.train["epoch"].back().y, 4));
    row("tokens", count_text(tokens));
    row("time", duration_text(seconds));
    if (seconds > 0) row("tokens per second", number_text(tokens / seconds, 4));
    row("peak memory", number_text(peak, 4) + " GiB");
    row("train loss, first step", number_text(loss.front().y));
    row("train loss, last step", number_text(loss.back().y));
  }
  const auto& eval = run.eval["loss"];
  const Point* best = nullptr;
  for (const Point& p : eval)
    if (std::isfinite(p.y) && (!best || p.y < best->y)) best = &p;
  if (best) row("best eval loss", number_text(best->y) + " at step " + count_text(best->x));
  if (!eval.empty()) {
    row("final eval loss", number_text(eval.back().y));
    row("final eval perplexity", number_text(run.eval["perplexity"].back().y));
  }
  return out + "</dl>\n";
}

/// The points of the second half of `last` steps: what the steep start hides in the whole curve.
std::vector<Point> second_half(std::vector<Point> points, double last) {
  std::erase_if(points, [&](const Point& p) { return p.x < last / 2; });
  return points;
}

std::string charts_html(Run& run) {
  // Raw values, paler under their smoothed line where there are enough for one.
  const auto curves = [](const std::vector<Point>& points) {
    if (points.size() <= 10) return std::vector<Series>{{"train", "b", points}};
    return std::vector<Series>{{"train", "a", points}, {"train, smoothed", "b", smooth(points)}};
  };
  std::vector<Series> losses = curves(run.train["loss"]);
  losses.push_back({"eval", "c", run.eval["loss"], true});
  std::string out = "<div class=\"charts\">\n" + chart_html("Loss", losses, false);
  if (losses.size() == 3) {
    const double last = losses[0].points.back().x;
    for (Series& s : losses) s.points = second_half(std::move(s.points), last);
    out += chart_html("Loss, second half of the run", losses, false);
  }
  out += chart_html("Learning rate", {{"", "b", run.train["learning_rate"]}}, true);
  out += chart_html("Gradient norm, before clipping", curves(run.train["grad_norm"]), true);
  out += chart_html("Tokens per second", curves(run.train["tokens_per_second"]), true);
  out += chart_html("Peak memory, GiB", {{"", "b", run.train["memory"]}}, true);
  return out + "</div>\n";
}

/// A prompt as it was given: text, or messages each under its role.
std::string prompt_text(const Json* prompt) {
  if (!prompt) return "";
  if (prompt->is_string()) return prompt->string();
  if (!prompt->is_array()) return prompt->dump();
  std::string out;
  for (const Json& message : prompt->array()) {
    const Json *role = message.get("role"), *content = message.get("content");
    if (!role || !content || !role->is_string()) return prompt->dump();
    out += (out.empty() ? "" : "\n\n") + role->string() + ": " +
           (content->is_string() ? content->string() : content->dump());
  }
  return out;
}

std::string samples_html(std::string_view samples) {
  std::string out;
  int64_t number = 0;
  for (const std::string& text : whole_lines(samples)) {
    const Json line = parse_json(text, str("samples.jsonl:", ++number));
    const auto part = [&](const char* name, const char* key) {
      return str("<h3>", name, "</h3><pre>", html_escape(prompt_text(line.get_set(key))), "</pre>");
    };
    out += "<article>" + part("Prompt", "prompt") + "<div class=\"pair\"><div>" +
           part("Reference", "reference") + "</div><div>" + part("Generated", "generated") +
           "</div></div></article>\n";
  }
  return out.empty() ? "" : "<h2>Samples</h2>\n" + out;
}

}  // namespace

std::string html_escape(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        if ((c >= 0 && c < 0x20 && c != '\n' && c != '\t') || c == 0x7f) {
          out += "&#xfffd;";
        } else {
          out += c;
        }
    }
  }
  return out;
}

std::string report_html(std::string_view metrics, std::string_view samples, std::string_view config,
                        std::string_view title) {
  Run run = read_run(metrics);
  const std::string name = html_escape(title);
  std::string out =
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>" +
      name + "</title>\n" + std::string(kStyle) + "</head><body>\n<h1>" + name + "</h1>\n";
  out += run.summary ? "<p class=\"muted\">The run is finished.</p>\n"
                     : "<p class=\"muted\">The run stopped before its end; it goes on with "
                       "<code>--resume</code>.</p>\n";
  out += summary_html(run) + "<h2>Curves</h2>\n" + charts_html(run) + samples_html(samples);
  if (!config.empty())
    out += "<h2>Configuration</h2>\n<pre class=\"card\">" + html_escape(config) + "</pre>\n";
  return out + "</body></html>\n";
}

void write_report(const fs::path& output) {
  const auto text = [&](const char* name) {
    return fs::exists(output / name) ? read_file(output / name) : std::string();
  };
  const fs::path folder = fs::absolute(output).lexically_normal();
  const fs::path title = folder.has_filename() ? folder : folder.parent_path();
  const std::string metrics = text("metrics.jsonl"), samples = text("samples.jsonl"),
                    config = text("config.yaml");
  std::string page;
  try {
    page = report_html(metrics, samples, config, "finetune: " + title.filename().string());
  } catch (const Error& e) {  // a damaged line: what was trained is not less for it
    log_warning((output / "report.html").string(), ": not written: ", e.what());
    return;
  }
  replace_file(output / "report.html", page);
}

void remove_report(const fs::path& output) {
  for (const char* name : {"report.html", "samples.jsonl"}) remove_tree(output / name);
}

int with_report(const fs::path& output, const std::function<int()>& run) {
  int status = 0;
  try {
    status = run();
  } catch (...) {
    try {
      write_report(output);
    } catch (const std::exception&) {
      // The disk that failed the run may fail the report too; the run's own error says more.
    }
    throw;
  }
  write_report(output);
  return status;
}

}  // namespace ft
