// The ranker as XLA FFI calls, and the rankers that such calls may name.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <memory>

#include "phoenix/tower.h"

namespace xfast::phoenix::ffi {

// A compiled XLA program holds a ranker by number, since nothing tells it when the ranker goes. A call keeps the ranker
// alive while it runs; one whose ranker is gone fails.
std::int64_t enroll(const std::shared_ptr<const RankerTower>& tower);
void dismiss(std::int64_t number);

// A context as XLA sees it: a header and a cache with room for `room` tokens.
std::size_t context_bytes(const RankerTower& tower, std::size_t room);

// Adds `ffi_handlers`, a dictionary of name -> capsule for jax.ffi.register_ffi_target.
void add_handlers(nanobind::module_& module);

}  // namespace xfast::phoenix::ffi
