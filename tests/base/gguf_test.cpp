// The container against hand-made bad files, the block formats against the `gguf` package.
#include "base/gguf.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "base/error.h"
#include "base/safetensors.h"
#include "base/seed.h"
#include "gguf_bytes.h"
#include "parity.h"

namespace ft {
namespace {

constexpr uint64_t kMinusOne = UINT64_MAX;

GgufBytes small_file() {
  GgufBytes g;
  g.string("general.architecture", "llama").integer("a.count", 7).real("a.real", 0.5f);
  g.boolean("a.flag", true).strings("a.names", {"x", "", "\xe2\x96\x81y"});
  g.numbers<int32_t>("a.types", 5, {1, -2, 3}).numbers<float>("a.scores", 6, {0.5f, -1});
  g.numbers<uint8_t>("a.bits", 7, {1, 0});
  g.floats("t.vector", {3}, {1, 2, 3}).floats("t.matrix", {2, 3}, {1, 2, 3, 4, 5, 6});
  return g;
}

TEST(Gguf, ReadsValuesAndTensors) {
  const ScratchFolder folder;
  const GgufFile f(folder.write("a.gguf", small_file().build()));
  EXPECT_EQ(f.get_string("general.architecture"), "llama");
  EXPECT_EQ(f.get_int("a.count"), 7);
  EXPECT_EQ(f.get_float("a.real"), 0.5);
  EXPECT_EQ(f.get_bool("a.flag"), true);
  EXPECT_EQ(f.get_strings("a.names"), (std::vector<std::string_view>{"x", "", "\xe2\x96\x81y"}));
  EXPECT_EQ(f.get_ints("a.types"), (std::vector<int64_t>{1, -2, 3}));
  EXPECT_EQ(f.get_ints("a.bits"), (std::vector<int64_t>{1, 0}));
  EXPECT_EQ(f.get_floats("a.scores"), (std::vector<float>{0.5f, -1}));
  EXPECT_EQ(f.get_int("absent"), std::nullopt);
  EXPECT_TRUE(f.is_array("a.types"));
  EXPECT_FALSE(f.is_array("a.count"));
  ASSERT_EQ(f.tensors().size(), 2u);
  EXPECT_EQ(f.find("t.matrix")->shape, (std::vector<int64_t>{3, 2}));
  EXPECT_EQ(f.find("t.matrix")->bytes.size(), 24u);
  EXPECT_EQ(f.find("absent"), nullptr);
}

TEST(Gguf, WrongTypesNameTheKey) {
  const ScratchFolder folder;
  GgufBytes g = small_file();
  g.value("a.huge", 10, Bytes().u64(kMinusOne)).string("a.latin", "\xe9");
  g.strings("a.broken", {"ok", "\xed\xa0\x80"});
  const GgufFile f(folder.write("a.gguf", g.build()));
  const std::function<void()> reads[] = {
      [&] { f.get_int("a.names"); },    [&] { f.get_int("a.real"); },
      [&] { f.get_int("a.huge"); },     [&] { f.get_float("a.count"); },
      [&] { f.get_bool("a.count"); },   [&] { f.get_string("a.count"); },
      [&] { f.get_string("a.latin"); }, [&] { f.get_strings("a.types"); },
      [&] { f.get_ints("a.scores"); },  [&] { f.get_floats("a.types"); },
      [&] { f.get_ints("a.count"); },   [&] { f.get_strings("a.broken"); },
  };
  for (const auto& read : reads) {
    try {
      read();
      ADD_FAILURE() << "accepted";
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find("a.gguf: a."), std::string::npos) << e.what();
    }
  }
}

/// Header, then what the case appends.
Bytes header(uint64_t tensors, uint64_t values, uint32_t version = 3) {
  return Bytes().raw("GGUF").u32(version).u64(tensors).u64(values);
}
Bytes one_value(const std::string& key, uint32_t type) {
  return header(0, 1).text(key).u32(type);
}
/// A file with one tensor: dimensions, type, offset, and `data` bytes of data.
std::string one_tensor(const std::vector<uint64_t>& dims, uint32_t type, uint64_t offset,
                       size_t data, const std::string& name = "t") {
  Bytes b = header(1, 0).text(name).u32(static_cast<uint32_t>(dims.size()));
  for (const uint64_t d : dims) b.u64(d);
  return b.u32(type).u64(offset).pad(32).raw(std::string(data, '\1')).str();
}
std::string two_tensors(const std::string& second, uint64_t second_offset) {
  Bytes b = header(2, 0);
  b.text("t").u32(1).u64(16).u32(0).u64(0);
  b.text(second).u32(1).u64(16).u32(0).u64(second_offset);
  return b.pad(32).raw(std::string(128, '\1')).str();
}
std::string with_alignment(uint32_t type, const Bytes& value) {
  return header(0, 1).text("general.alignment").u32(type).raw(value.str()).str();
}

struct BadFile {
  const char* what;
  std::string bytes;
  const char* expected;  ///< part of the message
};

std::vector<BadFile> bad_headers() {
  const std::string spare(64, '\0');
  return {
      {"empty", "", "not a GGUF"},
      {"magic", "GGML" + spare, "not a GGUF"},
      {"magic only", "GGUF", "not a GGUF"},
      {"version 0", header(0, 0, 0).str(), "version 0"},
      {"version 1", header(0, 0, 1).str(), "version 1"},
      {"version 4", header(0, 0, 4).str(), "version 4"},
      {"big endian", header(0, 0, 3u << 24).str(), "big-endian"},
      {"cut in the counts", header(0, 0).str().substr(0, 20), "cut short"},
      {"n_tensors -1", header(kMinusOne, 0).str() + spare, "tensors cannot fit"},
      {"n_kv -1", header(0, kMinusOne).str() + spare, "metadata entries cannot fit"},
      {"n_kv too many", header(0, 99).str() + spare, "metadata entries cannot fit"},
      {"key size -1", header(0, 1).u64(kMinusOne).str() + spare, "metadata key"},
      {"key beyond the end", header(0, 1).u64(1000).str() + spare, "metadata key"},
      {"key too long", header(0, 1).text(std::string(65536, 'k')).u32(4).u32(1).str(), "at most"},
      {"empty key", one_value("", 4).u32(1).str(), "empty key"},
      {"value type", one_value("k", 13).u64(1).str(), "value type 13"},
      {"value type -1", one_value("k", UINT32_MAX).u64(1).str(), "value type"},
      {"cut in a value", one_value("k", 10).u32(1).str(), "left"},
      {"string size -1", one_value("k", 8).u64(kMinusOne).str() + spare, "string"},
      {"string beyond the end", one_value("k", 8).u64(65).str() + spare, "string"},
      {"boolean 2", one_value("k", 7).put(uint8_t{2}).str(), "neither 0 nor 1"},
      {"duplicate key", header(0, 2).text("k").u32(4).u32(1).text("k").u32(4).u32(1).str(),
       "appears twice"},
      {"array of arrays", one_value("k", 9).u32(9).u64(1).str() + spare, "array of arrays"},
      {"array element type", one_value("k", 9).u32(77).u64(1).str() + spare, "value type 77"},
      {"array length -1", one_value("k", 9).u32(4).u64(kMinusOne).str() + spare, "cannot fit"},
      {"array bytes overflow", one_value("k", 9).u32(12).u64(1ull << 61).str() + spare,
       "cannot fit"},
      {"array of strings too long", one_value("k", 9).u32(8).u64(9).str() + spare, "cannot fit"},
      {"array string size", one_value("k", 9).u32(8).u64(1).u64(kMinusOne).str(), "string"},
      {"alignment 0", with_alignment(4, Bytes().u32(0)), "power of two"},
      {"alignment 24", with_alignment(4, Bytes().u32(24)), "power of two"},
      {"alignment type", with_alignment(10, Bytes().u64(32)), "32-bit integer"},
      {"alignment string", with_alignment(8, Bytes().text("32")), "32-bit integer"},
  };
}

std::vector<BadFile> bad_tensors() {
  const uint64_t big = 1ull << 62;
  Bytes huge_alignment = header(1, 1).text("general.alignment").u32(4).u32(1u << 31);
  huge_alignment.text("t").u32(1).u64(4).u32(0).u64(0).raw(std::string(64, '\0'));
  Bytes many_dims = header(1, 0).text("t").u32(UINT32_MAX).raw(std::string(64, '\0'));
  return {
      {"name too long", one_tensor({4}, 0, 0, 16, std::string(65, 'n')), "at most 64"},
      {"empty name", one_tensor({4}, 0, 0, 16, ""), "empty name"},
      {"no dimensions", one_tensor({}, 0, 0, 16), "0 dimensions"},
      {"five dimensions", one_tensor({1, 1, 1, 1, 4}, 0, 0, 16), "5 dimensions"},
      {"dimensions -1", many_dims.str(), "4294967295 dimensions"},
      {"dimension 0", one_tensor({4, 0}, 0, 0, 16), "dimension 1 is 0"},
      {"dimension -1", one_tensor({kMinusOne}, 0, 0, 16), "dimension 0 is -1"},
      {"elements overflow", one_tensor({4, big, big, 4}, 0, 0, 16), "too large"},
      {"elements wrap to few", one_tensor({4194305, 4194305, 211106198978564}, 0, 0, 16),
       "too large"},
      {"bytes overflow", one_tensor({big}, 0, 0, 16), "more bytes"},
      {"bytes overflow in blocks", one_tensor({big, 2}, 2, 0, 36), "more bytes"},
      {"more bytes than the file", one_tensor({1 << 30}, 0, 0, 16), "more bytes"},
      {"broken block", one_tensor({33}, 8, 0, 64), "no whole blocks of Q8_0"},
      {"type -1", one_tensor({4}, UINT32_MAX, 0, 16), "are not read"},
      {"type 4 (removed)", one_tensor({32}, 4, 0, 64), "type 4"},
      {"type Q2_K", one_tensor({256}, 10, 0, 84), "Q2_K"},
      {"offset not aligned", one_tensor({4}, 0, 16, 64), "alignment"},
      {"offset beyond the end", one_tensor({4}, 0, 64, 64), "beyond the end"},
      {"offset wraps", one_tensor({16}, 0, kMinusOne - 31, 64), "beyond the end"},
      {"data cut", one_tensor({16}, 0, 0, 63), "beyond the end"},
      {"duplicate name", two_tensors("t", 64), "have this name"},
      {"overlap", two_tensors("u", 32), "overlaps"},
      {"same bytes", two_tensors("u", 0), "overlaps"},
      {"padding beyond the end", huge_alignment.str(), "padding"},
  };
}

TEST(Gguf, BadFilesGiveOneLine) {
  const ScratchFolder folder;
  for (const auto& list : {bad_headers(), bad_tensors()})
    for (const BadFile& bad : list) {
      const auto file = folder.write("bad.gguf", bad.bytes);
      try {
        const GgufFile f(file);
        ADD_FAILURE() << bad.what << ": accepted";
      } catch (const Error& e) {
        const std::string text = e.what();
        EXPECT_EQ(e.code(), Code::kInput) << bad.what;
        EXPECT_TRUE(text.starts_with(file.string() + ": ")) << text;
        EXPECT_EQ(text.find('\n'), std::string::npos) << text;
        EXPECT_NE(text.find(bad.expected), std::string::npos) << bad.what << ": " << text;
      }
    }
}

TEST(Gguf, GoodNeighboursOfTheBadFiles) {
  const ScratchFolder folder;
  for (const std::string& bytes :
       {one_tensor({16}, 0, 0, 64), one_tensor({16, 1, 1, 1}, 0, 32, 96), two_tensors("u", 64),
        one_tensor({4}, 0, 0, 16, std::string(64, 'n')), header(0, 0, 2).str(),
        with_alignment(4, Bytes().u32(1)), one_value("k", 9).u32(8).u64(0).str()})
    EXPECT_NO_THROW(GgufFile(folder.write("good.gguf", bytes)));
}

/// Whatever happens to the bytes: a file that reads, or an Error.
TEST(Gguf, SurvivesCutsAndFlippedBytes) {
  const ScratchFolder folder;
  const std::string good = small_file().build();
  const auto attempt = [&](const std::string& bytes) {
    try {
      const GgufFile f(folder.write("fuzz.gguf", bytes));
      f.get_strings("a.names");
      for (const GgufTensor& t : f.tensors()) {
        std::vector<float> out(t.bytes.size() / ggml_format(t.type).block_bytes *
                               ggml_format(t.type).block_values);
        dequantize(t.type, t.bytes.data(), t.bytes.size() / ggml_format(t.type).block_bytes,
                   out.data());
      }
      return true;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Code::kInput);
      return false;
    }
  };
  for (size_t n = 0; n + 32 < good.size(); n += 3) EXPECT_FALSE(attempt(good.substr(0, n))) << n;
  Rng rng(3);
  for (int i = 0; i < 600; ++i) {
    std::string bytes = good;
    for (uint64_t k = 0; k <= rng.below(3); ++k)
      bytes[rng.below(bytes.size())] = static_cast<char>(rng.below(256));
    attempt(bytes);
  }
}

TEST(GgufDequant, EqualsTheReferenceBitForBit) {
  const auto file = test_data() / "gguf" / "blocks.safetensors";
  std::map<std::string, StoredTensor> tensors;
  for (auto& t : read_safetensors(file)) tensors.emplace(t.name, t);
  int types = 0;
  for (const uint32_t number : {0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 30}) {
    const GgmlFormat& f = *find_ggml_format(number);
    const auto& blocks = tensors.at(std::string(f.name) + ".blocks");
    const auto& values = tensors.at(std::string(f.name) + ".values");
    const size_t n = blocks.bytes.size() / f.block_bytes;
    std::vector<float> ours(n * f.block_values);
    ASSERT_EQ(ours.size() * sizeof(float), values.bytes.size()) << f.name;
    dequantize(f.type, blocks.bytes.data(), n, ours.data());
    EXPECT_EQ(std::memcmp(ours.data(), values.bytes.data(), values.bytes.size()), 0) << f.name;
    ++types;
  }
  EXPECT_EQ(types * 2, static_cast<int>(tensors.size()));
}

TEST(GgufDequant, HalfAndBfloat16) {
  EXPECT_EQ(half_to_float(0x0001), 0x1p-24f);
  EXPECT_EQ(half_to_float(0x83ff), -0x1.ff8p-15f);
  EXPECT_EQ(half_to_float(0x7bff), 65504.0f);
  EXPECT_TRUE(std::signbit(half_to_float(0x8000)));
  EXPECT_TRUE(std::isinf(half_to_float(0xfc00)));
  EXPECT_TRUE(std::isnan(half_to_float(0x7e00)));
  EXPECT_EQ(float_to_bf16(1.0f), 0x3f80);
  EXPECT_EQ(float_to_bf16(0x1.01p0f), 0x3f80);      // half way, to even
  EXPECT_EQ(float_to_bf16(0x1.03p0f), 0x3f82);      // half way, to even
  EXPECT_EQ(float_to_bf16(0x1.010002p0f), 0x3f81);  // just above half way
  EXPECT_EQ(float_to_bf16(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_EQ(float_to_bf16(-INFINITY), 0xff80);
  EXPECT_TRUE(float_to_bf16(NAN) > 0x7f80);
}

TEST(GgufText, Utf8) {
  for (const char* good :
       {"", "a", "\xc3\xa9", "\xe2\x96\x81", "\xf0\x9f\x98\x80", "\xf4\x8f\xbf\xbf"})
    EXPECT_TRUE(is_utf8(good)) << good;
  for (const char* bad :
       {"\x80", "\xc0\x80", "\xc3", "\xe0\x80\x80", "\xed\xa0\x80", "\xf0\x80\x80\x80",
        "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "a\xff", "\xe2\x96"})
    EXPECT_FALSE(is_utf8(bad));
}

}  // namespace
}  // namespace ft
