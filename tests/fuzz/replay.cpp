// Runs a fuzz target on files and on all files of folders, where libFuzzer is not there: what ever
// broke a reader must not again.
#include "fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size);

int main(int argc, char** argv) {
  size_t count = 0;
  const auto run = [&](const ft::fs::path& file) {
    const std::string content = ft::read_file(file);
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(content.data()), content.size());
    ++count;
  };
  for (int i = 1; i < argc; ++i) {
    if (ft::fs::is_regular_file(argv[i])) run(argv[i]);
    for (const ft::fs::path& file :
         ft::fs::is_directory(argv[i]) ? ft::list_folder(argv[i]) : std::vector<ft::fs::path>())
      run(file);
  }
  std::printf("%zu inputs\n", count);
  return count > 0 ? 0 : 1;
}
