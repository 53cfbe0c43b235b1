// The embedding of timesteps, sinusoids and two linear layers: Timesteps and TimestepEmbedding of diffusers.
//
//   s = [cos(t f), sin(t f)] or [sin(t f), cos(t f)]      f are the D / 2 frequencies, https://arxiv.org/abs/1706.03762
//   y = second silu(first s + first_bias) + second_bias
//
// 0 t [L]   1 settings [cosine first]   2 f [D / 2], in float32   3, 4 first [E, D], [E]   5, 6 second [E, E], [E]
// -> y [L, E]; D and E are multiples of 16. t f is rounded to float32, as it is elsewhere.
#include "arguments.h"
#include "functions.h"
#include "reduce.h"

namespace ddim {
namespace {

struct TimeEmbedding {
  const Arguments& in;
  bool cosine_first;
  long D, E;

  explicit TimeEmbedding(const Arguments& arguments)
      : in(arguments), cosine_first(in.in(1)[0] != 0), D(in.size(3, 1)), E(in.size(3, 0)) {}

  long floats() const { return padded(D) + padded(E); }

  void run(long lane, Scratch scratch) const {
    const float* t = in.in(0) + lane;
    float* y = in.out() + lane * E;
    if (at_rest(t)) return mark_at_rest(y);
    float *waves = scratch.take(D), *hidden = scratch.take(E);
    float* cosines = waves + (cosine_first ? 0 : D / 2);
    float* sines = waves + (cosine_first ? D / 2 : 0);
    for (long i = 0; i < D / 2; i++) sine_and_cosine(static_cast<double>(*t * in.in(2)[i]), sines[i], cosines[i]);
    for (long e = 0; e < E; e++) hidden[e] = dot(in.in(3) + e * D, waves, D) + in.in(4)[e];
    for (long e = 0; e < E; e += WIDTH) store(hidden + e, silu(load(hidden + e)));
    for (long e = 0; e < E; e++) y[e] = dot(in.in(5) + e * E, hidden, E) + in.in(6)[e];
  }
};

}  // namespace
}  // namespace ddim

DDIM_KERNEL(time_embedding) {
  using namespace ddim;
  if (!arguments.are(8)) return BAD_ARGUMENT;
  TimeEmbedding kernel(arguments);
  return each_lane(arguments.size(0, 0), kernel.floats(), kernel);
}
