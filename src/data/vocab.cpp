// Open addressing with linear probing, at most half full.
#include "data/vocab.h"

#include <functional>

namespace ft {

void Vocab::reserve(size_t tokens) {
  size_t slots = 16;
  while (slots < tokens * 2) slots *= 2;
  if (slots > slots_.size()) rehash(slots);
  entries_.reserve(tokens);
}

bool Vocab::add(std::string_view text, int32_t id) {
  if ((count_ + 1) * 2 > slots_.size()) rehash(slots_.empty() ? 16 : slots_.size() * 2);
  if (has(id)) return false;
  const size_t slot = slot_of(text);
  if (slots_[slot] >= 0) return false;
  if (id >= size()) entries_.resize(static_cast<size_t>(id) + 1);
  entries_[static_cast<size_t>(id)] = {texts_.size(), static_cast<uint32_t>(text.size()), true};
  texts_ += text;
  slots_[slot] = id;
  ++count_;
  return true;
}

int32_t Vocab::find(std::string_view text) const {
  return slots_.empty() ? -1 : slots_[slot_of(text)];
}

bool Vocab::has(int64_t id) const {
  return id >= 0 && id < size() && entries_[static_cast<size_t>(id)].used;
}

std::string_view Vocab::text(int64_t id) const {
  if (!has(id)) return {};
  const Entry& e = entries_[static_cast<size_t>(id)];
  return std::string_view(texts_).substr(e.begin, e.length);
}

size_t Vocab::slot_of(std::string_view text) const {
  const size_t mask = slots_.size() - 1;
  size_t at = std::hash<std::string_view>{}(text)&mask;
  while (slots_[at] >= 0 && this->text(slots_[at]) != text) at = (at + 1) & mask;
  return at;
}

void Vocab::rehash(size_t slots) {
  slots_.assign(slots, -1);
  for (size_t id = 0; id < entries_.size(); ++id)
    if (entries_[id].used)
      slots_[slot_of(text(static_cast<int64_t>(id)))] = static_cast<int32_t>(id);
}

}  // namespace ft
