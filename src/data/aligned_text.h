// Text on its way to the model that remembers where it came from: for each byte, the bytes of the
// original it stands for. As long as nothing was changed it is a view and costs nothing.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ft {

class AlignedText {
 public:
  /// Empty, to be appended to.
  AlignedText() : changed_(true) {}
  /// Bytes [begin, end) of `original`, which must outlive this.
  AlignedText(std::string_view original, size_t begin, size_t end)
      : source_(original.substr(begin, end - begin)), base_(static_cast<uint32_t>(begin)) {}

  std::string_view view() const { return changed_ ? std::string_view(text_) : source_; }
  size_t size() const { return view().size(); }

  /// Where the original of byte `i` begins and ends; i < size().
  uint32_t origin_begin(size_t i) const {
    return changed_ ? begin_[i] : base_ + static_cast<uint32_t>(i);
  }
  uint32_t origin_end(size_t i) const {
    return changed_ ? end_[i] : base_ + static_cast<uint32_t>(i) + 1;
  }

  /// Appends text that stands for bytes [begin, end) of the original as a whole.
  void append(std::string_view bytes, uint32_t begin, uint32_t end) {
    text_ += bytes;
    begin_.insert(begin_.end(), bytes.size(), begin);
    end_.insert(end_.end(), bytes.size(), end);
  }
  /// Appends bytes [begin, end) of another text with their origins.
  void append(const AlignedText& from, size_t begin, size_t end) {
    text_ += from.view().substr(begin, end - begin);
    for (size_t i = begin; i < end; ++i) {
      begin_.push_back(from.origin_begin(i));
      end_.push_back(from.origin_end(i));
    }
  }
  AlignedText slice(size_t begin, size_t end) const {
    if (!changed_) {
      AlignedText part(source_, begin, end);
      part.base_ += base_;
      return part;
    }
    AlignedText part;
    part.append(*this, begin, end);
    return part;
  }

 private:
  bool changed_ = false;
  std::string_view source_;
  uint32_t base_ = 0;
  std::string text_;
  std::vector<uint32_t> begin_, end_;
};

}  // namespace ft
