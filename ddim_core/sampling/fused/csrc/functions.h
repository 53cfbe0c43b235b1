// exp, SiLU, erf, GELU, sine and cosine, without the C library, whose results differ between releases.
#pragma once

#include "simd.h"

namespace ddim {

// e^x for any x; relative error below 2e-7. NaN stays NaN, above 88.72 the result is that of 88.72, below -87.33 of -87.33.
//
// x = n ln 2 + r with |r| <= ln(2)/2, and e^r = 1 + r + r^2 p(r); ln 2 in two parts, and the coefficients of p, are those
// of expf in S. Moshier's Cephes library (1989; https://www.netlib.org/cephes/, single/expf.c).
static inline Vec exponential(Vec x0) {
  Vec x = smaller(larger(x0, splat(-87.33f)), splat(88.72f));
  const Vec shift = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer, found in the lowest bits
  Vec shifted = fma(x, splat(1.44269504f), shift);
  Ints n = (Ints)shifted - (Ints)shift;
  Vec n_float = shifted - shift;
  Vec r = fma(n_float, splat(-0.693359375f), x);
  r = fma(n_float, splat(2.12194440e-4f), r);
  Vec p = splat(1.9875691500e-4f);
  p = fma(p, r, splat(1.3981999507e-3f));
  p = fma(p, r, splat(8.3334519073e-3f));
  p = fma(p, r, splat(4.1665795894e-2f));
  p = fma(p, r, splat(1.6666665459e-1f));
  p = fma(p, r, splat(5.0000001201e-1f));
  p = fma(p, r * r, r) + splat(1.0f);
  // 2^n in two factors, because 2^128 is none of float's numbers.
  Ints half = n >> 1;
  Vec low = (Vec)((half + 127) << 23), high = (Vec)((n - half + 127) << 23);
  return choose(x0 != x0, x0, p * low * high);
}

// x / (1 + e^-x), https://arxiv.org/abs/1702.03118.
static inline Vec silu(Vec x) { return x / (splat(1.0f) + exponential(-x)); }

// erf(x); absolute error below 4e-7. |x| above 4 gives erf(4), 1 in float.
//
// x p(x^2) / q(x^2), a rational minimax approximation on [-4, 4]; its coefficients are those that Eigen and XLA use
// (https://gitlab.com/libeigen/eigen, GenericPacketMathFunctions.h, generic_fast_erf).
static inline Vec error_function(Vec x0) {
  Vec x = smaller(larger(x0, splat(-4.0f)), splat(4.0f)), z = x * x;
  Vec p = splat(-2.72614225801306e-10f);
  p = fma(p, z, splat(2.77068142495902e-08f));
  p = fma(p, z, splat(-2.10102402082508e-06f));
  p = fma(p, z, splat(-5.69250639462346e-05f));
  p = fma(p, z, splat(-7.34990630326855e-04f));
  p = fma(p, z, splat(-2.95459980854025e-03f));
  p = fma(p, z, splat(-1.60960333262415e-02f));
  Vec q = splat(-1.45660718464996e-05f);
  q = fma(q, z, splat(-2.13374055278905e-04f));
  q = fma(q, z, splat(-1.68282697438203e-03f));
  q = fma(q, z, splat(-7.37332916720468e-03f));
  q = fma(q, z, splat(-1.42647390514189e-02f));
  return x * p / q;
}

// x Phi(x) = x (1 + erf(x / sqrt 2)) / 2, https://arxiv.org/abs/1606.08415.
static inline Vec gelu(Vec x) {
  return x * splat(0.5f) * (splat(1.0f) + error_function(x * splat(0.70710678118654752f)));
}

// Sine and cosine of one x, in double precision, |x| up to 1e5; absolute error below 1e-11, so the float is that of
// the exact value in all but one case in thousands.
//
// x = n pi/2 + r, pi/2 in two parts; then the Taylor series on [-pi/4, pi/4], whose first term left out is below 1e-12.
static inline void sine_and_cosine(double x, float& sine, float& cosine) {
  const double shift = 6755399441055744.0;  // 1.5 * 2^52
  double n = (x * 0.63661977236758134 + shift) - shift;
  double r = (x - n * 1.5707963267948966) - n * 6.123233995736766e-17;
  double z = r * r;
  double s = r * (1 + z * (-1.0 / 6 + z * (1.0 / 120 + z * (-1.0 / 5040 + z * (1.0 / 362880 + z * (-1.0 / 39916800))))));
  double c = 1 + z * (-1.0 / 2 + z * (1.0 / 24 + z * (-1.0 / 720 + z * (1.0 / 40320 + z * (-1.0 / 3628800 + z * (1.0 / 479001600))))));
  switch (static_cast<long>(n) & 3) {
    case 0: sine = static_cast<float>(s); cosine = static_cast<float>(c); break;
    case 1: sine = static_cast<float>(c); cosine = static_cast<float>(-s); break;
    case 2: sine = static_cast<float>(-s); cosine = static_cast<float>(-c); break;
    default: sine = static_cast<float>(-c); cosine = static_cast<float>(s);
  }
}

}  // namespace ddim
