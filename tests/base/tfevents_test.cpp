#include "base/tfevents.h"

#include <gtest/gtest.h>

#include <cstring>

namespace ft {
namespace {

template <typename T>
T read_at(const std::string& bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

/// The payloads of a file of records, their lengths and checksums verified.
std::vector<std::string> payloads(const std::string& file) {
  std::vector<std::string> out;
  for (size_t at = 0; at < file.size();) {
    const auto size = read_at<uint64_t>(file, at);
    EXPECT_LE(at + 16 + size, file.size());
    out.push_back(file.substr(at + 12, size));
    EXPECT_EQ(file.substr(at, 16 + size), tfrecord(out.back()));
    at += 16 + size;
  }
  return out;
}

TEST(TfEvents, Crc32cOfKnownInputs) {
  // RFC 3720, appendix B.4, and the usual check value of the polynomial.
  EXPECT_EQ(crc32c(""), 0u);
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43u);
}

TEST(TfEvents, RecordFraming) {
  const std::string record = tfrecord("abc");
  ASSERT_EQ(record.size(), 8u + 4 + 3 + 4);
  EXPECT_EQ(read_at<uint64_t>(record, 0), 3u);
  EXPECT_EQ(record.substr(12, 3), "abc");
  const auto masked = [](uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xa282ead8u; };
  EXPECT_EQ(read_at<uint32_t>(record, 8), masked(crc32c(record.substr(0, 8))));
  EXPECT_EQ(read_at<uint32_t>(record, 15), masked(crc32c("abc")));
}

TEST(TfEvents, FileHoldsVersionStartAndScalars) {
  const fs::path folder = fs::path(testing::TempDir()) / "ft_tfevents";
  fs::remove_all(folder);
  const EventFile events(folder, 301);
  events.write(301, {{"train/loss", 1.5}, {"eval/loss", 0.25}});
  events.write(302, {{"train/loss", -2.0}});
  EXPECT_TRUE(events.path().filename().string().starts_with("events.out.tfevents."));
  const auto found = payloads(read_file(events.path()));
  ASSERT_EQ(found.size(), 4u);
  for (const std::string& event : found) EXPECT_EQ(event[0], '\x09');  // wall_time: field 1, double
  // After the 9 bytes of wall_time: step (varint), then the one field that says what it is.
  EXPECT_EQ(found[0].substr(9), std::string("\x10\x00\x1a\x0d", 4) + "brain.Event:2");
  EXPECT_EQ(found[1].substr(9), "\x10\xad\x02\x3a\x02\x08\x01");
  EXPECT_EQ(found[2].substr(9), std::string("\x10\xad\x02\x2a\x25"
                                            "\x0a\x11\x0a\x0atrain/loss\x15\0\0\xc0\x3f"
                                            "\x0a\x10\x0a\x09"
                                            "eval/loss\x15\0\0\x80\x3e",
                                            42));
  EXPECT_EQ(found[3].substr(9, 3), "\x10\xae\x02");
}

TEST(TfEvents, RemovesOnlyEventFiles) {
  const fs::path folder = fs::path(testing::TempDir()) / "ft_tfevents_remove";
  fs::remove_all(folder);
  remove_event_files(folder);  // not there: nothing to do
  const EventFile events(folder, 0);
  write_file(folder / "notes.txt", "mine");
  remove_event_files(folder);
  EXPECT_FALSE(fs::exists(events.path()));
  EXPECT_TRUE(fs::exists(folder / "notes.txt"));
}

}  // namespace
}  // namespace ft
