// Sums whose order no instruction set, tile or thread changes: SUMS partial sums, then a tree over them.
#pragma once

#include "simd.h"

namespace ddim {

constexpr int SUMS = 16;

// Partial sum i is that of the terms i, i + 16, i + 32, ...; a row's last terms may be fewer than 16.
class PartialSums {
 public:
  void add(int slice, Vec term) { sums_[slice] = sums_[slice] + term; }
  void add_product(int slice, Vec a, Vec b) { sums_[slice] = fma(a, b, sums_[slice]); }

  // ((s0 + s8) + (s4 + s12)) + ..., the same tree everywhere.
  float total() const {
    float s[SUMS];
    memcpy(s, sums_, sizeof s);
    for (int half = SUMS / 2; half > 0; half /= 2)
      for (int i = 0; i < half; i++) s[i] = s[i] + s[i + half];
    return s[0];
  }

  static constexpr int SLICES = SUMS / WIDTH;

 private:
  Vec sums_[SLICES] = {};
};

// Calls visit(slice, i) for each full vector of [0, n), and last(slice, i, count) for what is left, padded by the caller.
// Floats past n must be readable: rows are padded.
static inline Vec first_of(Vec v, long count) {
  float x[WIDTH];
  store(x, v);
  for (long i = count < 0 ? 0 : count; i < WIDTH; i++) x[i] = 0.0f;
  return load(x);
}

// Sum of term(i) over i in [0, n), where term(i) gives the WIDTH terms from i on; those past n do not count.
template <class Term>
static inline void add_row(PartialSums& sums, long n, Term term) {
  long i = 0;
  for (; i + SUMS <= n; i += SUMS)
    for (int slice = 0; slice < PartialSums::SLICES; slice++) sums.add(slice, term(i + slice * WIDTH));
  if (i < n)
    for (int slice = 0; slice < PartialSums::SLICES; slice++) {
      long at = i + slice * WIDTH;
      sums.add(slice, first_of(term(at), n - at));
    }
}

// sum of a[i] * b[i], n a multiple of 16.
static inline float dot(const float* a, const float* b, long n) {
  PartialSums sums;
  for (long i = 0; i < n; i += SUMS)
    for (int slice = 0; slice < PartialSums::SLICES; slice++)
      sums.add_product(slice, load(a + i + slice * WIDTH), load(b + i + slice * WIDTH));
  return sums.total();
}

}  // namespace ddim
