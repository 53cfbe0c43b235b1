// What MindSpore hands to an ahead-of-time kernel of mindspore.ops.Custom: tensors and their shapes, the output last.
#pragma once

#include "pool.h"

#include <string.h>

namespace ddim {

class Arguments {
 public:
  Arguments(int count, void** tensors, int64_t** shapes, const char** types)
      : count_(count), tensors_(tensors), shapes_(shapes), types_(types) {}

  // Whether there are as many as the kernel takes, all of float32. Shapes that fit are the caller's promise.
  bool are(int count) const {
    if (count_ != count) return false;
    for (int i = 0; types_ && i < count; i++)
      if (strcmp(types_[i], "float32") != 0) return false;
    return true;
  }

  const float* in(int i) const { return static_cast<const float*>(tensors_[i]); }
  float* out() const { return static_cast<float*>(tensors_[count_ - 1]); }
  long size(int i, int axis) const { return shapes_[i][axis]; }
  long out_size(int axis) const { return shapes_[count_ - 1][axis]; }

 private:
  int count_;
  void** tensors_;
  int64_t** shapes_;
  const char** types_;
};

// A lane at rest is marked in its own data: its first value is this NaN, which no arithmetic makes. A kernel that finds it
// passes the mark on and leaves the rest of its output as it is.
constexpr uint32_t REST = 0x7FC5EED5;

static inline bool at_rest(const float* lane) {
  uint32_t bits;
  memcpy(&bits, lane, sizeof bits);
  return bits == REST;
}
static inline void mark_at_rest(float* lane) { memcpy(lane, &REST, sizeof REST); }

}  // namespace ddim

#define DDIM_KERNEL(name)                                                                                        \
  static ddim::Status name(const ddim::Arguments& arguments);                                                    \
  extern "C" int ddim_##name(int count, void** tensors, int*, int64_t** shapes, const char** types, void*, void*) { \
    return name(ddim::Arguments(count, tensors, shapes, types));                                                 \
  }                                                                                                              \
  static ddim::Status name(const ddim::Arguments& arguments)
