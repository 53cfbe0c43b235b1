// Group norm, optionally followed by SiLU, and layer norm, of one lane's map [C, P] with padded rows.
#pragma once

#include "functions.h"
#include "reduce.h"

namespace ddim {

struct Norm {
  const float* weight;
  const float* bias;
  float epsilon;
};

// y = weight (x - mean) / sqrt(variance + epsilon) + bias, over the C / groups channels of each group and all pixels;
// https://arxiv.org/abs/1803.08494. The variance is that of the population, from a second pass.
static inline void group_norm(const float* x, long C, long P, long groups, const Norm& norm, bool with_silu, float* y) {
  const long in_group = C / groups, row = padded(P);
  const float count = static_cast<float>(in_group * P);
  for (long g = 0; g < groups; g++) {
    const float* from = x + g * in_group * row;
    PartialSums sum;
    for (long c = 0; c < in_group; c++) add_row(sum, P, [&](long i) { return load(from + c * row + i); });
    const Vec mean = splat(sum.total() / count);
    PartialSums squares;
    for (long c = 0; c < in_group; c++)
      add_row(squares, P, [&](long i) {
        Vec d = load(from + c * row + i) - mean;
        return d * d;
      });
    const float scale = 1.0f / square_root(squares.total() / count + norm.epsilon);
    for (long c = 0; c < in_group; c++) {
      const long channel = g * in_group + c;
      const Vec weight = splat(scale * norm.weight[channel]), bias = splat(norm.bias[channel]);
      float* to = y + channel * row;
      for (long i = 0; i < row; i += WIDTH) {
        Vec v = fma(load(from + c * row + i) - mean, weight, bias);
        store(to + i, with_silu ? silu(v) : v);
      }
    }
  }
}

// The same over the C channels of each pixel; https://arxiv.org/abs/1607.06450.
static inline void layer_norm(const float* x, long C, long P, const Norm& norm, float* y) {
  const long row = padded(P);
  const Vec count = splat(static_cast<float>(C));
  for (long p = 0; p < row; p += WIDTH) {
    Vec sum = {}, squares = {};
    for (long c = 0; c < C; c++) sum = sum + load(x + c * row + p);
    const Vec mean = sum / count;
    for (long c = 0; c < C; c++) {
      Vec d = load(x + c * row + p) - mean;
      squares = fma(d, d, squares);
    }
    float scale[WIDTH];
    store(scale, squares / count + splat(norm.epsilon));
    for (float& s : scale) s = 1.0f / square_root(s);
    const Vec scales = load(scale);
    for (long c = 0; c < C; c++)
      store(y + c * row + p, fma((load(x + c * row + p) - mean) * scales, splat(norm.weight[c]), splat(norm.bias[c])));
  }
}

}  // namespace ddim
