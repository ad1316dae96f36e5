// Zeroed memory straight from the operating system, so that freeing it gives it back at once.
#pragma once

#include <cstddef>
#include <cstdint>

namespace xfast {

// Throws std::bad_alloc.
void* map_pages(std::size_t bytes);
void unmap_pages(void* pages, std::size_t bytes) noexcept;

// Zeroed bytes that are read from end to end: on a cache line, and in huge pages where they are many and the system has
// such pages. Small ones spend a fifth of a scan's time on page borders, where the processor stops to read ahead.
class LongBuffer {
 public:
  explicit LongBuffer(std::size_t bytes);
  ~LongBuffer();
  LongBuffer(const LongBuffer&) = delete;
  LongBuffer& operator=(const LongBuffer&) = delete;

  std::uint8_t* data() { return data_; }
  const std::uint8_t* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  std::size_t size_;
  std::uint8_t* data_;
};

}  // namespace xfast
