#include "common/pages.h"

#include <sys/mman.h>

#include <cstring>
#include <new>

namespace xfast {

void* map_pages(std::size_t bytes) {
  void* pages = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) throw std::bad_alloc();
  return pages;
}

void unmap_pages(void* pages, std::size_t bytes) noexcept { munmap(pages, bytes); }

namespace {

constexpr std::size_t kHugePage = std::size_t{1} << 21, kLine = 64;

std::size_t alignment(std::size_t bytes) { return bytes >= kHugePage ? kHugePage : kLine; }

}  // namespace

LongBuffer::LongBuffer(std::size_t bytes)
    : size_(bytes), data_(static_cast<std::uint8_t*>(operator new(bytes, std::align_val_t{alignment(bytes)}))) {
#if defined(MADV_HUGEPAGE)
  if (bytes >= kHugePage) madvise(data_, bytes, MADV_HUGEPAGE);  // advice: without it everything works, too
#endif
  std::memset(data_, 0, bytes);
}

LongBuffer::~LongBuffer() { operator delete(data_, std::align_val_t{alignment(size_)}); }

}  // namespace xfast
