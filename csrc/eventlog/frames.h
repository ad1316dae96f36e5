// Records of the event log: header {crc32c u32, size u32, offset u64, time_ms i64}, then the payload, little-endian.
// The checksum covers everything behind it, so a record that is torn, moved or overwritten does not pass.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "eventlog/wire.h"

namespace xfast::eventlog {

constexpr std::size_t kFrameHeader = 24;

// Appends one record per message, with offsets first, first + 1, ...
std::vector<std::uint8_t> frame(std::span<const wire::Slice> messages, std::uint64_t first_offset,
                                std::int64_t time_ms);

struct Frames {
  std::vector<std::int64_t> starts, sizes, offsets, times_ms;  // of the payloads inside the buffer
  std::size_t used = 0;                                        // bytes of whole records
  bool damaged = false;  // the record at `used` is whole in the buffer but its checksum or size is wrong
};

// Reads whole records, at most `limit` of them, from the start of the buffer. `max_size` bounds a payload: a larger
// size is damage, not a reason to wait for more bytes.
Frames scan(const std::uint8_t* data, std::size_t size, std::size_t limit, std::size_t max_size);

// The position of the first intact record at or behind `from` with an offset of at least `min_offset`, or `size` if
// there is none. Only offsets a little above the minimum are believed, which keeps the search linear on arbitrary
// bytes.
std::size_t find_record(const std::uint8_t* data, std::size_t size, std::size_t from, std::uint64_t min_offset,
                        std::size_t max_size);

}  // namespace xfast::eventlog
