// UTF-8 by hand: decoding with the bounds the standard asks for, the replacement of broken parts
// that Rust and Python share, and GPT-2's alphabet that spells every byte as a printable character.
// Trap: overlong forms, surrogates and values past U+10FFFF are broken, not just long.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace ft {

/// One step through a text: a code point, or (valid = false) the longest broken part that a decoder
/// replaces by a single U+FFFD. `length` is at least 1 inside the text.
struct CodePoint {
  uint32_t value;
  uint32_t length;
  bool valid;
};

CodePoint decode_point(std::string_view text, size_t at);
void append_point(std::string& out, uint32_t point);

/// Bytes from the start that are valid UTF-8; text.size() when all of it is.
size_t valid_utf8_prefix(std::string_view text);

/// The text with every broken part replaced by U+FFFD.
std::string lossy_utf8(std::string_view bytes);

/// Byte -> its character in GPT-2's alphabet: printable Latin-1 stands for itself, the other 68
/// bytes become U+0100, U+0101, ... in order.
uint32_t byte_to_char(uint8_t byte);
/// The reverse; -1 for a character outside of the alphabet.
int char_to_byte(uint32_t point);
/// All bytes spelled in that alphabet, as vocabularies of byte-level BPE do.
std::string spell_bytes(std::string_view bytes);

}  // namespace ft
