// Maps of channels x pixels: in MindSpore's memory their rows follow one another, in a kernel's own they are padded.
#pragma once

#include "simd.h"

namespace ddim {

// Copies rows of n floats, and fills what is left of the padded ones with zeros.
static inline void pad_rows(const float* from, long rows, long n, float* to) {
  const long row = padded(n);
  for (long r = 0; r < rows; r++) {
    memcpy(to + r * row, from + r * n, n * sizeof(float));
    memset(to + r * row + n, 0, (row - n) * sizeof(float));
  }
}

static inline void unpad_rows(const float* from, long rows, long n, float* to) {
  for (long r = 0; r < rows; r++) memcpy(to + r * n, from + r * padded(n), n * sizeof(float));
}

}  // namespace ddim
