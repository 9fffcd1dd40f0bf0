#include "base/json.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "base/error.h"
#include "base/files.h"
#include "base/names.h"

namespace ft {
namespace {

TEST(Json, KeepsOrderAndRoundTrips) {
  const std::string text = R"({"b": [1, 2.5, null, true], "a": {"x": "\u00e9\n"}, "n": -3})";
  const Json json = parse_json(text, "t");
  EXPECT_EQ(json.dump(true), R"({"b": [1, 2.5, null, true], "a": {"x": "\u00e9\n"}, "n": -3})");
  EXPECT_EQ(parse_json(json.dump(), "t"), json);
  EXPECT_EQ(parse_json(json.dump_indented(), "t"), json);
}

TEST(Json, FloatsAsPythonPrintsThem) {
  EXPECT_EQ(float_text(1.0), "1.0");
  EXPECT_EQ(float_text(0.1), "0.1");
  EXPECT_EQ(float_text(1e-5), "1e-05");
  EXPECT_EQ(float_text(1e16), "1e+16");
  EXPECT_EQ(float_text(123456789012345.0), "123456789012345.0");
}

TEST(Json, RefusesWhatIsAmbiguous) {
  for (const char* bad : {"{\"a\":1,\"a\":2}", "{", "[1,]", "NaN", "\"\xff\"", "", "1 2"})
    EXPECT_THROW(parse_json(bad, "f"), Error) << bad;
  EXPECT_THROW(parse_json(std::string(100, '[') + std::string(100, ']'), "f"), Error);
  try {
    parse_json("{\"a\": }", "data.jsonl:7");
    FAIL();
  } catch (const Error& e) {
    EXPECT_TRUE(std::string(e.what()).starts_with("data.jsonl:7: ")) << e.what();
  }
}

TEST(Json, KeysThatComeTwiceAreFoundInLargeObjects) {
  for (const int size : {3, 8, 9, 100, 3000}) {
    std::string text = "{";
    for (int i = 0; i < size; ++i) text += str("\"k", i, "\": {\"k0\": ", i, "}, ");
    EXPECT_EQ(parse_json(text + "\"k\": 0}", "t").object().size(), static_cast<size_t>(size) + 1);
    for (const int twice : {0, size / 2, size - 1})
      EXPECT_THROW(parse_json(text + str("\"k", twice, "\": 0}"), "t"), Error)
          << size << " " << twice;
  }
}

TEST(Json, LargeContainersAreHandedOver) {
  const std::string file = testing::TempDir() + str("json_take_", ::getpid(), ".json");
  write_file(
      file,
      R"({"a": {"b": {"x": 1, "y": [2, {"z": 3}]}, "c": [4, [5]], "d": [6]}, "b": {"x": 7}})");
  std::string taken;
  const auto take = [&](std::string_view key, const Json& value) {
    taken += str(key, "=", value.dump(), ";");
  };
  const JsonTake takes[] = {{"a.b", true, take}, {"a.c", false, take}, {"a.d", true, take}};
  EXPECT_EQ(read_json(file, takes).dump(), R"({"a": {"b": {}, "c": [], "d": [6]}, "b": {"x": 7}})");
  EXPECT_EQ(taken, R"(x=1;y=[2, {"z": 3}];=4;=[5];)");
  std::filesystem::remove(file);
}

TEST(Names, Suggestions) {
  EXPECT_EQ(did_you_mean("learnig_rate", {"learning_rate", "r"}),
            " (did you mean \"learning_rate\"?)");
  EXPECT_EQ(did_you_mean("zzzzzz", {"learning_rate"}), "");
}

}  // namespace
}  // namespace ft
