// convert(): GGUF to HF.
#include "base/error.h"
#include "base/files.h"
#include "data/gguf_convert.h"
#include "finetune/run.h"

namespace ft {

void convert(const std::string& input, const std::string& output) {
  if (fs::is_directory(input))
    fail_usage(printable_line(input),
               ": a folder; finetune convert reads a GGUF file and writes a model folder");
  convert_gguf(input, output);
}

}  // namespace ft
