// Memory that a kernel works in: one block for each thread, kept for the next call and made larger when that needs more.
#pragma once

#include "simd.h"

namespace ddim {

// Hands out pieces of a block; a first pass with no block only counts, so that sizes are written once.
class Scratch {
 public:
  explicit Scratch(float* block) : block_(block) {}

  // n floats, at a multiple of 64 bytes from the block's start.
  float* take(long n) {
    float* piece = block_ ? block_ + used_ : nullptr;
    used_ += padded(n);
    return piece;
  }
  // A map of channels x pixels, each row padded.
  float* map(long channels, long pixels) { return take(channels * padded(pixels)); }

  long used() const { return used_; }

 private:
  float* block_;
  long used_ = 0;
};

}  // namespace ddim
