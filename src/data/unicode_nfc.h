// Unicode normalisation form C (UAX #15), which Qwen's tokenizers ask for: decompose canonically,
// order the combining marks, compose again. NFKC and NFKD need tables three times as long and no
// supported family uses them; the normaliser refuses them by name.
#pragma once

#include "data/aligned_text.h"

namespace ft {

/// The text in form C (compose) or D. A changed stretch stands as a whole for the bytes it came
/// from.
AlignedText normalize_canonical(const AlignedText& text, bool compose);

extern const char* const kCanonicalDecompositions;
extern const char* const kCombiningClasses;

}  // namespace ft
