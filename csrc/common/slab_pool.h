// Blocks of a few sizes behind 32-bit handles. A slab of 64 KB serves one size and is unmapped when its last block is
// released, so memory comes back after a trim. One writer allocates and releases; readers only follow handles.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "common/directory.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define XFAST_POISON(address, bytes) __asan_poison_memory_region((address), (bytes))
#define XFAST_UNPOISON(address, bytes) __asan_unpoison_memory_region((address), (bytes))
#else
#define XFAST_POISON(address, bytes) ((void)0)
#define XFAST_UNPOISON(address, bytes) ((void)0)
#endif

namespace xfast {

// Unit: bytes per handle step. Handle 0 is never given out: a slab begins with its own 64-byte header.
template <std::size_t Unit>
class SlabPool {
 public:
  static constexpr std::size_t kSlabBytes = 64 * 1024;
  static constexpr std::size_t kUnits = kSlabBytes / Unit;

  explicit SlabPool(const char* what) : slabs_((std::size_t{1} << 32) / kUnits, what) {}
  ~SlabPool() {
    // The next mapping at this address must not inherit the poison.
    for (std::uint32_t index = 0; index < slabs_.used(); ++index)
      if (slabs_.present(index)) XFAST_UNPOISON(&slabs_[index], kSlabBytes);
  }
  SlabPool(const SlabPool&) = delete;
  SlabPool& operator=(const SlabPool&) = delete;

  [[nodiscard]] std::byte* at(std::uint32_t handle) const { return address(slabs_[handle / kUnits], handle % kUnits); }

  // Uninitialised block of `units` units.
  std::uint32_t allocate(std::uint32_t units) {
    if (units >= open_.size()) open_.resize(units + 1, kNone);
    std::uint32_t index = open_[units];
    if (index == kNone) {
      index = slabs_.add();
      Slab& slab = slabs_[index];
      slab.units = units;
      slab.bump = kHeader / Unit;
      slab.free = kNone;
      slab.live = 0;
      XFAST_POISON(address(slab, slab.bump), kSlabBytes - kHeader);
      link(index);
    }
    Slab& slab = slabs_[index];
    std::uint32_t offset = 0;
    if (slab.free != kNone) {
      offset = slab.free;
      XFAST_UNPOISON(address(slab, offset), units * Unit);
      std::memcpy(&slab.free, address(slab, offset), sizeof(slab.free));
    } else {
      offset = slab.bump;
      slab.bump += units;
      XFAST_UNPOISON(address(slab, offset), units * Unit);
    }
    ++slab.live;
    if (slab.free == kNone && slab.bump + units > kUnits) unlink(index);
    return static_cast<std::uint32_t>(index * kUnits + offset);
  }

  void release(std::uint32_t handle) {
    const auto index = static_cast<std::uint32_t>(handle / kUnits);
    const auto offset = static_cast<std::uint32_t>(handle % kUnits);
    Slab& slab = slabs_[index];
    if (slab.free == kNone && slab.bump + slab.units > kUnits) link(index);
    std::memcpy(address(slab, offset), &slab.free, sizeof(slab.free));
    slab.free = offset;
    XFAST_POISON(address(slab, offset), slab.units * Unit);
    // The last open slab of a size stays until shrink(), so that one block coming and going does not map and unmap.
    if (--slab.live == 0 && (open_[slab.units] != index || slab.next != kNone)) drop(index);
  }

  // Give back the slabs that hold nothing.
  void shrink() {
    for (const std::uint32_t index : std::vector<std::uint32_t>(open_))
      if (index != kNone && slabs_[index].live == 0) drop(index);
  }

  [[nodiscard]] std::size_t bytes() const { return slabs_.bytes(); }

 private:
  static constexpr std::uint32_t kNone = ~0u;

  static constexpr std::size_t kHeader = 64;
  static_assert(Unit <= kHeader && kHeader % Unit == 0 && kUnits * Unit == kSlabBytes);

  struct Slab {
    std::uint32_t units, bump, free, live, next, previous;
    alignas(kHeader) std::byte blocks[kSlabBytes - kHeader];
  };
  static_assert(sizeof(Slab) == kSlabBytes);

  static std::byte* address(Slab& slab, std::size_t offset) {
    return reinterpret_cast<std::byte*>(&slab) + offset * Unit;
  }

  void link(std::uint32_t index) {
    Slab& slab = slabs_[index];
    slab.previous = kNone;
    slab.next = open_[slab.units];
    if (slab.next != kNone) slabs_[slab.next].previous = index;
    open_[slab.units] = index;
  }

  void unlink(std::uint32_t index) {
    Slab& slab = slabs_[index];
    if (slab.previous == kNone) {
      open_[slab.units] = slab.next;
    } else {
      slabs_[slab.previous].next = slab.next;
    }
    if (slab.next != kNone) slabs_[slab.next].previous = slab.previous;
  }

  void drop(std::uint32_t index) {
    unlink(index);
    XFAST_UNPOISON(&slabs_[index], kSlabBytes);
    slabs_.remove(index);
  }

  Directory<Slab> slabs_;
  std::vector<std::uint32_t> open_;  // per size in units: the first slab with room
};

}  // namespace xfast
