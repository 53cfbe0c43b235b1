// Vectors of floats, as wide as the instruction set has them; the only file that knows which one it is.
//
// Whatever the width, results have equal bits: an operation on a vector is the same IEEE operation on each of its floats,
// products are added with explicit fused multiply-adds and never by the compiler's choice (-ffp-contract=off), and sums
// over a vector's floats are always those of SUMS partial sums (see reduce.h).
#pragma once

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace ddim {

#if defined(__AVX512F__)
constexpr int WIDTH = 16;
#elif defined(__AVX2__)
constexpr int WIDTH = 8;
#elif defined(__aarch64__)
constexpr int WIDTH = 4;
#else
#error "x86-64-v3, x86-64-v4 or aarch64 is needed"
#endif

typedef float Vec __attribute__((vector_size(4 * WIDTH)));
typedef int32_t Ints __attribute__((vector_size(4 * WIDTH)));

// Rows of pixels are padded to this many floats, so that every width divides them.
constexpr long PAD = 16;
constexpr long padded(long n) { return (n + PAD - 1) / PAD * PAD; }

static inline Vec load(const float* from) {
  Vec v;
  memcpy(&v, from, sizeof v);
  return v;
}
static inline void store(float* to, Vec v) { memcpy(to, &v, sizeof v); }

static inline Vec splat(float x) {
#if defined(__AVX512F__)
  return (Vec)_mm512_set1_ps(x);
#elif defined(__AVX2__)
  return (Vec)_mm256_set1_ps(x);
#else
  return (Vec)vdupq_n_f32(x);
#endif
}

// a * b + c, rounded once.
static inline Vec fma(Vec a, Vec b, Vec c) {
#if defined(__AVX512F__)
  return (Vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
  return (Vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return (Vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#endif
}

static inline Vec choose(Ints where, Vec yes, Vec no) { return (Vec)(((Ints)yes & where) | ((Ints)no & ~where)); }
// Not the instructions of that name, which treat NaN differently: here a NaN in a stays.
static inline Vec larger(Vec a, Vec b) { return choose(a < b, b, a); }
static inline Vec smaller(Vec a, Vec b) { return choose(a > b, b, a); }

static inline float square_root(float x) {
#if defined(__x86_64__)
  return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x)));
#else
  return vgetq_lane_f32(vsqrtq_f32(vdupq_n_f32(x)), 0);
#endif
}

// Rounding to nearest and no flushing of tiny numbers, whatever the caller's thread was set to; restored at the end.
class IeeeArithmetic {
 public:
#if defined(__x86_64__)
  IeeeArithmetic() : before_(_mm_getcsr()) { _mm_setcsr(0x1F80); }
  ~IeeeArithmetic() { _mm_setcsr(before_); }

 private:
  unsigned before_;
#else
  IeeeArithmetic() {
    __asm__ volatile("mrs %0, fpcr" : "=r"(before_));
    __asm__ volatile("msr fpcr, %0" : : "r"(uint64_t{0}));
  }
  ~IeeeArithmetic() { __asm__ volatile("msr fpcr, %0" : : "r"(before_)); }

 private:
  uint64_t before_;
#endif
};

}  // namespace ddim
