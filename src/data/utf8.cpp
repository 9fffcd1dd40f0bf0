// The decoder follows table 3-7 of the Unicode standard (well-formed byte sequences): only the
// second byte has bounds of its own.
#include "data/utf8.h"

#include <array>

namespace ft {
namespace {

struct ByteAlphabet {
  std::array<uint16_t, 256> to_char{};
  std::array<int16_t, 0x144> to_byte{};

  ByteAlphabet() {
    to_byte.fill(-1);
    uint16_t next = 0x100;
    for (int b = 0; b < 256; ++b) {
      const bool printable = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
      const uint16_t c = printable ? static_cast<uint16_t>(b) : next++;
      to_char[static_cast<size_t>(b)] = c;
      to_byte[c] = static_cast<int16_t>(b);
    }
  }
};

const ByteAlphabet& alphabet() {
  static const ByteAlphabet table;
  return table;
}

}  // namespace

CodePoint decode_point(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(at);
  if (lead < 0x80) return {lead, 1, true};
  if (lead < 0xc2 || lead > 0xf4) return {0xfffd, 1, false};
  const uint32_t length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  const uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  const uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  uint32_t value = lead & (0x7fu >> length);
  for (uint32_t k = 1; k < length; ++k) {
    if (at + k >= text.size()) return {0xfffd, k, false};
    const uint8_t next = byte(at + k);
    if (next < (k == 1 ? low : 0x80) || next > (k == 1 ? high : 0xbf)) return {0xfffd, k, false};
    value = value << 6 | (next & 0x3fu);
  }
  return {value, length, true};
}

void append_point(std::string& out, uint32_t point) {
  if (point < 0x80) {
    out += static_cast<char>(point);
    return;
  }
  const int extra = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
  constexpr uint8_t kLead[] = {0, 0xc0, 0xe0, 0xf0};
  out += static_cast<char>(kLead[extra] | point >> (6 * extra));
  for (int k = extra - 1; k >= 0; --k) out += static_cast<char>(0x80 | ((point >> (6 * k)) & 0x3f));
}

size_t valid_utf8_prefix(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const CodePoint point = decode_point(text, at);
    if (!point.valid) break;
    at += point.length;
  }
  return at;
}

std::string lossy_utf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  for (size_t at = 0; at < bytes.size();) {
    const size_t good = valid_utf8_prefix(bytes.substr(at));
    out += bytes.substr(at, good);
    at += good;
    if (at == bytes.size()) break;
    append_point(out, 0xfffd);
    at += decode_point(bytes, at).length;
  }
  return out;
}

uint32_t byte_to_char(uint8_t byte) {
  return alphabet().to_char[byte];
}

int char_to_byte(uint32_t point) {
  return point < alphabet().to_byte.size() ? alphabet().to_byte[point] : -1;
}

std::string spell_bytes(std::string_view bytes) {
  std::string out;
  for (const char b : bytes) append_point(out, byte_to_char(static_cast<uint8_t>(b)));
  return out;
}

}  // namespace ft
