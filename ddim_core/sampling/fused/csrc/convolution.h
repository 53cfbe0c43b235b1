// Convolutions with 3x3 weights [O, C, 3, 3] of one lane's map [C, H, W] with padded rows, zeros beyond its edges.
#pragma once

#include "maps.h"
#include "product.h"
#include "scratch.h"

namespace ddim {

// A band is a run of pixels in the order of memory, from one row into the next: long enough to fill tiles, and short
// enough that three copies of it, of every channel, fit a core's cache.
static inline long band_pixels(long C, long P, long W) {
  const long cache_floats = 512 * 1024 / 4, tile = 64;
  long most = (cache_floats / (3 * C) - 2 * W) / tile * tile;
  if (most < tile) most = tile;
  return padded(P) < most ? padded(P) : most;
}

// The copies that convolve_3x3 needs.
static inline long convolution_floats(long C, long H, long W) { return 3 * C * (band_pixels(C, H * W, W) + 2 * W); }

// copies[c, kx, i] = x[c, q + kx - 1] for q = first - W + i, the band's pixels and a row above and below it; 0 where that
// is not in the picture, or in another row than q.
static inline void spread(const float* x, long C, long H, long W, long first, long count, float* copies) {
  const long P = H * W, row = padded(P), length = count + 2 * W, start = first - W;
  for (long c = 0; c < C; c++)
    for (long kx = 0; kx < 3; kx++) {
      float* to = copies + (c * 3 + kx) * length;
      const long shift = kx - 1;
      long begin = start < 0 ? -start : 0, end = P - start < length ? P - start : length;
      if (end < begin) end = begin;
      // Of the picture's first pixel there is none on the left, of its last none on the right.
      const long from = start + begin + shift < 0 ? begin + 1 : begin;
      const long until = start + end + shift > P ? end - 1 : end;
      memset(to, 0, from * sizeof(float));
      if (until > from) memcpy(to + from, x + c * row + start + from + shift, (until - from) * sizeof(float));
      memset(to + (until > from ? until : from), 0, (length - (until > from ? until : from)) * sizeof(float));
      if (shift == 0) continue;
      const long edge = shift < 0 ? 0 : W - 1;  // in this column the neighbour is of another row
      long i = (edge - start % W + 2 * W) % W;
      for (; i < length; i += W) to[i] = 0.0f;
    }
}

// y[O, P] = sum over c, ky, kx of weights[o, c, ky, kx] x[c, row + ky - 1, column + kx - 1], finished; stride 1.
static inline void convolve_3x3(const float* weights, const float* x, long C, long O, long H, long W, float* copies,
                                float* y, const Finish& finish) {
  const long P = H * W, row = padded(P), band = band_pixels(C, P, W);
  for (long first = 0; first < row; first += band) {
    const long count = row - first < band ? row - first : band, length = count + 2 * W;
    spread(x, C, H, W, first, count, copies);
    Right<9> right{copies, 3 * length, {}};
    for (int ky = 0; ky < 3; ky++)
      for (int kx = 0; kx < 3; kx++) right.tap_at[ky * 3 + kx] = kx * length + ky * W;
    product<9>(Left{weights, 9 * C, 1}, right, O, C, count, y + first, row, finish.at_column(first));
  }
}

constexpr long STRIDED_TILE = 64;

// What convolve_strided needs: a tile's pixels of all taps.
static inline long strided_floats(long C) { return C * 9 * STRIDED_TILE; }

// The same with stride 2, where the first tap is `before` pixels (0 or 1) above and to the left.
static inline void convolve_strided(const float* weights, const float* x, long C, long O, long H, long W, long before,
                                    long out_H, long out_W, float* taps, float* y, const Finish& finish) {
  const long P = out_H * out_W, row = padded(P), x_row = padded(H * W);
  for (long first = 0; first < row; first += STRIDED_TILE) {
    const long count = row - first < STRIDED_TILE ? row - first : STRIDED_TILE;
    for (long c = 0; c < C; c++)
      for (long tap = 0; tap < 9; tap++) {
        float* to = taps + (c * 9 + tap) * count;
        for (long i = 0; i < count; i++) {
          const long p = first + i, at_y = p / out_W * 2 + tap / 3 - before, at_x = p % out_W * 2 + tap % 3 - before;
          const bool inside = p < P && at_y >= 0 && at_y < H && at_x >= 0 && at_x < W;
          to[i] = inside ? x[c * x_row + at_y * W + at_x] : 0.0f;
        }
      }
    weigh(weights, taps, count, O, 9 * C, count, y + first, row, finish.at_column(first));
  }
}

}  // namespace ddim
