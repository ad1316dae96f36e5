// CRC-32C (Castagnoli), the checksum of snapshots and log records.
#pragma once

#include <cstddef>
#include <cstdint>

namespace xfast {

// Continues from `crc` (0 to start); the value of the whole is the value of its parts in turn.
std::uint32_t crc32c(std::uint32_t crc, const void* data, std::size_t bytes);

}  // namespace xfast
