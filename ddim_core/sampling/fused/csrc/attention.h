// Scaled dot-product attention of one lane, https://arxiv.org/abs/1706.03762, without masks.
#pragma once

#include "functions.h"
#include "product.h"

namespace ddim {

constexpr long QUERIES = 64;  // that are worked on together

// What attend needs: the weights of QUERIES queries for all keys.
static inline long attention_floats(long keys) { return keys * QUERIES; }

// In each column, s[j] = e^(s[j] - max) / sum over j of the same.
static inline void softmax_columns(float* s, long keys, long columns) {
  for (long p = 0; p < columns; p += WIDTH) {
    Vec most = load(s + p);
    for (long j = 1; j < keys; j++) most = larger(most, load(s + j * columns + p));
    Vec sum = {};
    for (long j = 0; j < keys; j++) {
      Vec e = exponential(load(s + j * columns + p) - most);
      store(s + j * columns + p, e);
      sum = sum + e;
    }
    const Vec share = splat(1.0f) / sum;
    for (long j = 0; j < keys; j++) store(s + j * columns + p, load(s + j * columns + p) * share);
  }
}

// out[C, P] = v softmax(scale k^T q), for each head's C / heads channels; q and out are maps [C, P] with padded rows,
// k and v are [C, keys] with rows of key_row floats.
static inline void attend(const float* q, const float* k, const float* v, long C, long heads, long P, long keys,
                          long key_row, float scale, float* weights, float* out) {
  const long d = C / heads, row = padded(P);
  Finish scaled;
  scaled.scale = scale;
  for (long head = 0; head < heads; head++)
    for (long p = 0; p < row; p += QUERIES) {
      const long count = row - p < QUERIES ? row - p : QUERIES;
      const float *kh = k + head * d * key_row, *vh = v + head * d * key_row;
      product<1>(Left{kh, 1, key_row}, Right<1>{q + head * d * row + p, row, {0}}, keys, d, count, weights, count, scaled);
      softmax_columns(weights, keys, count);
      product<1>(Left{vh, key_row, 1}, Right<1>{weights, count, {0}}, d, keys, count, out + head * d * row + p, row, {});
    }
}

}  // namespace ddim
