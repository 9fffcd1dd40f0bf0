// A program that embeds the library through include/ alone; it is compiled without src/ and
// LibTorch on its include path.
#include <cstdio>

#include "finetune/config.h"
#include "finetune/error.h"
#include "finetune/run.h"

int main() {
  try {
    ft::load_config("", {{"lora.rnak", "8"}}, ft::Purpose::kOther);
  } catch (const ft::Error& e) {
    std::puts(e.what());
    return e.code() == ft::Code::kUsage ? 0 : 1;
  }
  return 1;
}
