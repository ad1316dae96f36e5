#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "fuzz.h"

namespace {

using Input = std::vector<std::uint8_t>;

constexpr std::size_t kEdges = 1 << 13;  // cleared and read for every input: small beats precise
std::array<std::uint8_t, kEdges> hit, seen;
std::uintptr_t previous = 0;

}  // namespace

// Called by the instrumented code at every basic block. This file is not instrumented.
extern "C" void __sanitizer_cov_trace_pc() {
  const auto here = reinterpret_cast<std::uintptr_t>(__builtin_return_address(0));
  hit[(here ^ previous >> 1) * 0x9E3779B97F4A7C15u >> 51] = 1;
  previous = here;
}

namespace {

class Fuzzer {
 public:
  Fuzzer(std::filesystem::path folder, std::uint64_t seed) : folder_(std::move(folder)), random_(seed) {}

  void load() {
    std::filesystem::create_directories(folder_);
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      std::ifstream file(entry.path(), std::ios::binary);
      run(Input(std::istreambuf_iterator<char>(file), {}), false);
    }
    if (corpus_.empty()) corpus_.push_back({});
  }

  void fuzz(std::chrono::seconds duration) {
    const auto end = std::chrono::steady_clock::now() + duration;
    while (std::chrono::steady_clock::now() < end)
      for (int i = 0; i < 1000; ++i) run(mutated(), true);
  }

  std::uint64_t runs = 0;
  std::size_t corpus() const { return corpus_.size(); }

 private:
  std::size_t below(std::size_t bound) { return bound == 0 ? 0 : random_() % bound; }

  void run(Input input, bool keep) {
    hit.fill(0);
    previous = 0;
    // What is running when a sanitizer aborts lies in a file beside the corpus.
    current_ = &input;
    ++runs;
    LLVMFuzzerTestOneInput(input.data(), input.size());
    bool found = false;
    for (std::size_t i = 0; i < kEdges; ++i)
      if (hit[i] > seen[i]) {
        seen[i] = 1;
        found = true;
      }
    if (!keep || found) {
      if (found && keep) write(input);
      corpus_.push_back(std::move(input));
    }
  }

  Input mutated() {
    Input input = corpus_[below(corpus_.size())];
    const std::size_t edits = 1 + below(4);
    for (std::size_t edit = 0; edit < edits; ++edit) {
      const std::size_t at = below(input.size() + 1);
      switch (below(7)) {
        case 0:
          if (at < input.size()) input[at] = static_cast<std::uint8_t>(random_());
          break;
        case 1:
          if (at < input.size()) input[at] ^= static_cast<std::uint8_t>(1u << below(8));
          break;
        case 2:
          input.insert(input.begin() + static_cast<std::ptrdiff_t>(at), static_cast<std::uint8_t>(random_()));
          break;
        case 3:
          if (at < input.size()) input.erase(input.begin() + static_cast<std::ptrdiff_t>(at));
          break;
        case 4:
          input.resize(at);
          break;
        case 5: {  // a piece of another input
          const Input& other = corpus_[below(corpus_.size())];
          const std::size_t from = below(other.size()), count = below(other.size() - from + 1);
          const Input piece(other.begin() + static_cast<std::ptrdiff_t>(from),
                            other.begin() + static_cast<std::ptrdiff_t>(from + count));
          input.insert(input.begin() + static_cast<std::ptrdiff_t>(at), piece.begin(), piece.end());
          break;
        }
        default: {  // a number at the edge of its range
          static constexpr std::array<std::uint8_t, 8> edge = {0x00, 0x01, 0x7f, 0x80, 0xff, 0x0a, 0x12, 0x1a};
          if (at < input.size()) input[at] = edge[below(edge.size())];
        }
      }
    }
    if (input.size() > 4096) input.resize(4096);
    return input;
  }

  void write(const Input& input) const {
    std::uint64_t hash = 0xcbf29ce484222325u;
    for (const auto byte : input) hash = (hash ^ byte) * 0x100000001b3u;
    std::array<char, 17> name{};
    std::snprintf(name.data(), name.size(), "%016llx", static_cast<unsigned long long>(hash));
    std::ofstream(folder_ / name.data(), std::ios::binary)
        .write(reinterpret_cast<const char*>(input.data()), static_cast<std::streamsize>(input.size()));
  }

 public:
  static void save_crash(const std::filesystem::path& file) {
    if (current_ == nullptr) return;
    std::ofstream(file, std::ios::binary)
        .write(reinterpret_cast<const char*>(current_->data()), static_cast<std::streamsize>(current_->size()));
  }

 private:
  static inline const Input* current_ = nullptr;
  std::filesystem::path folder_;
  std::mt19937_64 random_;
  std::vector<Input> corpus_;
};

std::filesystem::path crash_file;

}  // namespace

// Called by AddressSanitizer before it ends the process.
extern "C" void __asan_on_error() {
  Fuzzer::save_crash(crash_file);
  std::cerr << "the input is in " << crash_file << '\n';
}

int main(int count, char** words) {
  if (count < 3) {
    std::cerr << "usage: " << words[0] << " CORPUS SECONDS [SEED]\n";
    return 2;
  }
  const std::filesystem::path folder = words[1];
  crash_file = folder.parent_path() / "crash";
  std::signal(SIGABRT, [](int) { Fuzzer::save_crash(crash_file); });  // a property that does not hold
  Fuzzer fuzzer(folder, count > 3 ? std::stoull(words[3]) : static_cast<std::uint64_t>(getpid()));
  fuzzer.load();
  const std::size_t before = fuzzer.corpus();
  fuzzer.fuzz(std::chrono::seconds(std::stoll(words[2])));
  std::cout << fuzzer.runs << " runs, " << fuzzer.corpus() - before << " new inputs, no finding\n";
  return 0;
}
