// The protobuf wire format in short: a field is a key (number << 3 | kind) and a value; kind 0 is a
// varint, 1 is 8 bytes, 2 is a length and that many bytes, 5 is 4 bytes; all little-endian.
#include "base/tfevents.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <chrono>
#include <ctime>

namespace ft {
namespace {

constexpr std::string_view kPrefix = "events.out.tfevents.";

constexpr std::array<uint32_t, 256> kCrcTable = [] {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0u);
    table[i] = crc;
  }
  return table;
}();

/// TFRecord rotates and shifts its checksums: a CRC of data that holds CRCs is a weak one.
uint32_t masked_crc(std::string_view bytes) {
  return std::rotr(crc32c(bytes), 15) + 0xa282ead8u;
}

template <typename T>
std::string little_endian(T value) {
  std::string out;
  for (size_t i = 0; i < sizeof value; ++i) out += static_cast<char>(value >> (8 * i) & 0xff);
  return out;
}

std::string varint(uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>((value & 0x7f) | 0x80);
  return out + static_cast<char>(value);
}

std::string field_varint(uint32_t number, uint64_t value) {
  return varint(number << 3) + varint(value);
}
std::string field_double(uint32_t number, double value) {
  return varint(number << 3 | 1) + little_endian(std::bit_cast<uint64_t>(value));
}
std::string field_bytes(uint32_t number, std::string_view value) {
  return varint(number << 3 | 2) + varint(value.size()) + std::string(value);
}
std::string field_float(uint32_t number, float value) {
  return varint(number << 3 | 5) + little_endian(std::bit_cast<uint32_t>(value));
}

/// Event { double wall_time = 1; int64 step = 2; oneof what { ... } }
std::string event_record(int64_t step, const std::string& what) {
  using namespace std::chrono;
  const double now = duration<double>(system_clock::now().time_since_epoch()).count();
  return tfrecord(field_double(1, now) + field_varint(2, static_cast<uint64_t>(step)) + what);
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  uint32_t crc = 0xffffffffu;
  for (const char c : bytes) crc = crc >> 8 ^ kCrcTable[(crc ^ static_cast<uint8_t>(c)) & 0xff];
  return ~crc;
}

std::string tfrecord(std::string_view payload) {
  const std::string length = little_endian(static_cast<uint64_t>(payload.size()));
  return length + little_endian(masked_crc(length)) + std::string(payload) +
         little_endian(masked_crc(payload));
}

void remove_event_files(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder, error))
    if (entry.path().filename().string().starts_with(kPrefix)) found.push_back(entry.path());
  for (const fs::path& file : found) remove_tree(file);
}

EventFile::EventFile(const fs::path& folder, int64_t first_step) {
  char host[256] = {};
  if (gethostname(host, sizeof host - 1) != 0 || host[0] == '\0') host[0] = '-';
  make_folders(folder);
  file_ = folder / (std::string(kPrefix) + std::to_string(std::time(nullptr)) + "." + host + "." +
                    std::to_string(getpid()));
  // file_version = 3 comes first; then session_log = 7 { status = 1: START = 1 }.
  write_file(file_, event_record(0, field_bytes(3, "brain.Event:2")) +
                        event_record(first_step, field_bytes(7, field_varint(1, 1))));
}

void EventFile::write(int64_t step, const std::vector<Scalar>& values) const {
  std::string summary;  // repeated Value { string tag = 1; float simple_value = 2; } value = 1
  for (const Scalar& s : values)
    summary += field_bytes(1, field_bytes(1, s.tag) + field_float(2, static_cast<float>(s.value)));
  append_file(file_, event_record(step, field_bytes(5, summary)));
}

}  // namespace ft
