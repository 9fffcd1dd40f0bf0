// Unicode normalisation forms (UAX #15): NFC, which Qwen's tokenizers ask for, NFD, NFKC and NFKD.
#pragma once

#include "data/aligned_text.h"

namespace ft {

enum class UnicodeForm { kNfc, kNfd, kNfkc, kNfkd };

/// The text in that form. A changed stretch stands as a whole for the bytes it came from.
AlignedText normalize_unicode(const AlignedText& text, UnicodeForm form);

}  // namespace ft
