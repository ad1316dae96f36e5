// Weight matrices in the order in which the kernels read them.
//
// Columns come in panels of kPanel; inside a panel the rows follow one another. bfloat16 interleaves two rows and int8
// four, as the dot-product instructions want them. Missing columns and rows are zero.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

namespace xfast::phoenix {

constexpr std::size_t kPanel = 32;    // columns that one kernel call accumulates
constexpr std::size_t kColumns = 16;  // widths are padded to a multiple of this

// Inputs are padded with zero rows to what one tile instruction takes: 32 of bfloat16, 64 of int8.
constexpr std::size_t kDeepBfloat16 = 32;
constexpr std::size_t kDeepInt8 = 64;

constexpr std::size_t round_up(std::size_t n, std::size_t step) { return (n + step - 1) / step * step; }

// Cache-line aligned storage, zeroed.
template <class T>
class Aligned {
 public:
  Aligned() = default;
  explicit Aligned(std::size_t size) : size_(size) {
    if (size == 0) return;
    void* p = std::aligned_alloc(64, round_up(size * sizeof(T), 64));
    if (p == nullptr) throw std::bad_alloc();
    data_.reset(static_cast<T*>(p));
    std::memset(p, 0, size * sizeof(T));
  }
  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  T& operator[](std::size_t i) { return data_[i]; }
  const T& operator[](std::size_t i) const { return data_[i]; }
  std::size_t size() const { return size_; }
  std::size_t bytes() const { return size_ * sizeof(T); }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T[], Free> data_;
  std::size_t size_ = 0;
};

enum class Precision { float32, bfloat16, int8 };

inline std::uint16_t to_bfloat16(float x) {
  std::uint32_t bits;
  static_assert(sizeof bits == sizeof x);
  __builtin_memcpy(&bits, &x, 4);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);  // quiet NaN
  bits += 0x7fffu + ((bits >> 16) & 1u);
  return static_cast<std::uint16_t>(bits >> 16);
}

inline float from_bfloat16(std::uint16_t x) {
  const std::uint32_t bits = static_cast<std::uint32_t>(x) << 16;
  float value;
  __builtin_memcpy(&value, &bits, 4);
  return value;
}

// A matrix W [rows, columns] used as x @ W.
struct PackedMatrix {
  Precision precision = Precision::float32;
  std::size_t rows = 0;     // inputs
  std::size_t columns = 0;  // outputs, a multiple of kColumns
  Aligned<float> f32;
  Aligned<std::uint16_t> bf16;
  Aligned<std::int8_t> int8;
  Aligned<float> scale;              // int8: one per column
  Aligned<std::int32_t> correction;  // int8: 128 * the column's sum, since activations travel as unsigned bytes

  std::size_t bytes() const { return f32.bytes() + bf16.bytes() + int8.bytes() + scale.bytes() + correction.bytes(); }
};

// `dense` is row-major [rows, columns] with columns a multiple of kColumns.
PackedMatrix pack(const std::vector<float>& dense, std::size_t rows, std::size_t columns, Precision precision);

}  // namespace xfast::phoenix
