// GGUF file -> Hugging Face model folder: what `finetune convert FILE.gguf FOLDER` does.
#pragma once

#include "base/files.h"

namespace ft {

/// Writes config.json, generation_config.json, model.safetensors and the tokenizer files.
/// Weights are dequantised in float32 and stored as bfloat16; a file whose matrices are all float32
/// stays float32. Nothing is written before the whole file has been checked, and the folder appears
/// complete or not at all. Memory: the mapping and a few rows.
/// Error (input): a damaged file, an architecture, weight format or tokenizer that is not known,
/// missing, surplus or misshapen tensors. Error (output): `out_folder` exists and is not empty.
void convert_gguf(const fs::path& gguf_file, const fs::path& out_folder);

}  // namespace ft
