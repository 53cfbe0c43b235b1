// Threads that share a kernel's lanes. One lane is one thread's from beginning to end, so the bits of its results depend
// neither on the number of threads nor on which of them had it.
#pragma once

#include "scratch.h"

namespace ddim {

// What a kernel returns; MindSpore raises anything but OK as "Return value from CPU AOT kernel(...) is ...".
enum Status { OK = 0, NO_MEMORY = 12, BAD_ARGUMENT = 22 };

typedef void (*LaneWork)(const void* kernel, long lane, float* block);

// Calls work(kernel, lane, block) for every lane, where block has room for `floats`.
Status share_lanes(long lanes, long floats, LaneWork work, const void* kernel);

// The same for a kernel that is an object: kernel.run(lane, scratch), with room for what kernel.run(lane, ...) takes.
template <class Kernel>
static inline Status each_lane(long lanes, long floats, const Kernel& kernel) {
  return share_lanes(
      lanes, floats,
      [](const void* self, long lane, float* block) { static_cast<const Kernel*>(self)->run(lane, Scratch(block)); },
      &kernel);
}

}  // namespace ddim
