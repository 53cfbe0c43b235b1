// Products of a matrix with columns of pixels: out[m, p] = sum over k of a[m, k] b[k, p].
//
// Every output is one chain of fused multiply-adds over ascending k, starting from 0: its bits depend neither on the tile
// that it is computed in, nor on its neighbours. Pixels lie along vectors and weights are broadcast, so that channel-major
// maps and weights are used as they lie in memory.
#pragma once

#include "simd.h"

namespace ddim {

// What is done to a sum before it is stored: sum * scale + (bias[m] + shift[m]) + residual[m, p]; null leaves a term out.
struct Finish {
  const float* bias = nullptr;
  const float* shift = nullptr;
  const float* residual = nullptr;
  long residual_row = 0;
  float scale = 1.0f;

  Finish at_column(long p) const {
    Finish moved = *this;
    if (residual) moved.residual += p;
    return moved;
  }
};

// a[m, k] is a[m * row + k * step]: weights have step 1, a transposed matrix has row 1.
struct Left {
  const float* a;
  long row, step;
};

// The k-th row of b, for k = group * TAPS + tap, begins at b + group * group_step + tap_at[tap]: a plain matrix has one
// tap, a 3x3 convolution nine (convolution.h).
template <int TAPS>
struct Right {
  const float* b;
  long group_step;
  long tap_at[TAPS];

  Right at_column(long p) const {
    Right moved = *this;
    moved.b += p;
    return moved;
  }
};

// ROWS rows of VECS vectors of columns, which stay in registers.
template <int ROWS, int VECS, int TAPS>
static void tile(Left left, Right<TAPS> right, long groups, long m, float* out, long out_row, const Finish& finish) {
  Vec sum[ROWS][VECS] = {};
  const float* a = left.a + m * left.row;
  const float* b = right.b;
  const long row = left.row, step = left.step;
  for (long group = 0; group < groups; group++, b += right.group_step) {
#pragma GCC unroll 1
    for (int tap = 0; tap < TAPS; tap++, a += step) {
      Vec column[VECS];
#pragma GCC unroll 4
      for (int j = 0; j < VECS; j++) column[j] = load(b + right.tap_at[tap] + j * WIDTH);
#pragma GCC unroll 16
      for (int i = 0; i < ROWS; i++) {
        Vec weight = splat(a[i * row]);
#pragma GCC unroll 4
        for (int j = 0; j < VECS; j++) sum[i][j] = fma(weight, column[j], sum[i][j]);
      }
    }
  }
  // Unrolled too: sums that a loop finds by number would be kept in memory, and clang would store them at every step.
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; i++) {
    float add = (finish.bias ? finish.bias[m + i] : 0.0f) + (finish.shift ? finish.shift[m + i] : 0.0f);
#pragma GCC unroll 4
    for (int j = 0; j < VECS; j++) {
      Vec v = sum[i][j] * splat(finish.scale) + splat(add);
      if (finish.residual) v = v + load(finish.residual + (m + i) * finish.residual_row + j * WIDTH);
      store(out + (m + i) * out_row + j * WIDTH, v);
    }
  }
}

// All M rows of VECS vectors of columns; TALL rows at a time fill the registers.
template <int TALL, int VECS, int TAPS>
static void columns(Left left, Right<TAPS> right, long M, long groups, float* out, long out_row, const Finish& finish) {
  long m = 0;
  for (; m + TALL <= M; m += TALL) tile<TALL, VECS, TAPS>(left, right, groups, m, out, out_row, finish);
  for (; m + 4 <= M; m += 4) tile<4, VECS, TAPS>(left, right, groups, m, out, out_row, finish);
  for (; m < M; m++) tile<1, VECS, TAPS>(left, right, groups, m, out, out_row, finish);
}

// out[M, P] for P a multiple of 16; out may be the residual.
template <int TAPS>
static void product(Left left, Right<TAPS> right, long M, long groups, long P, float* out, long out_row,
                    const Finish& finish) {
  long p = 0;
#if defined(__AVX512F__)
  for (; p + 64 <= P; p += 64)
    columns<6, 4, TAPS>(left, right.at_column(p), M, groups, out + p, out_row, finish.at_column(p));
  for (; p + 32 <= P; p += 32)
    columns<12, 2, TAPS>(left, right.at_column(p), M, groups, out + p, out_row, finish.at_column(p));
  for (; p < P; p += 16)
    columns<16, 1, TAPS>(left, right.at_column(p), M, groups, out + p, out_row, finish.at_column(p));
#else
  for (; p < P; p += 16)
    columns<6, 16 / WIDTH, TAPS>(left, right.at_column(p), M, groups, out + p, out_row, finish.at_column(p));
#endif
}

// out[M, P] = weights[M, K] b[K, P].
static inline void weigh(const float* weights, const float* b, long b_row, long M, long K, long P, float* out,
                         long out_row, const Finish& finish = {}) {
  product<1>(Left{weights, K, 1}, Right<1>{b, b_row, {0}}, M, K, P, out, out_row, finish);
}

}  // namespace ddim
