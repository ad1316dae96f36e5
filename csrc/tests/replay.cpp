// Runs a fuzz target over every file of a folder: what the fuzzer found once is a test for ever.
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <vector>

#include "tests/fuzz.h"

int main(int count, char** words) {
  if (count != 2) {
    std::cerr << "usage: " << words[0] << " CORPUS\n";
    return 2;
  }
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(words[1])) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::vector<char> input(std::istreambuf_iterator<char>(file), {});
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
    ++files;
  }
  std::cout << files << " inputs\n";
  return files == 0;
}
