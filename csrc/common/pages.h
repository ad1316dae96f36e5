// Zeroed memory straight from the operating system, so that freeing it gives it back at once.
#pragma once

#include <cstddef>

namespace xfast {

// Throws std::bad_alloc.
void* map_pages(std::size_t bytes);
void unmap_pages(void* pages, std::size_t bytes) noexcept;

}  // namespace xfast
