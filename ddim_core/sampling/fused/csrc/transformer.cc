// A spatial transformer with one block: Transformer2DModel of diffusers on maps, https://arxiv.org/abs/2112.10752.
//
//   h = proj_in(group_norm(x))                                   tokens are the pixels, [C, P] with P = H W
//   h = h + out1(attention(q1 n, k1 n, v1 n)),  n = layer_norm1(h)
//   h = h + out2(attention(q2 n, k2 text, v2 text)),  n = layer_norm2(h)
//   h = h + down(a gelu(b)),  [a, b] = up(layer_norm3(h))        GEGLU, https://arxiv.org/abs/2002.05202
//   y = x + proj_out(h)
//
//  0 x [L, C, H, W]   1 settings [groups, group norm's epsilon, heads, layer norms' epsilon, scale of the products q k]
//  2 text [L, T, D]   3, 4 group norm [C]   5, 6 proj_in [C, C], [C]   7, 8 layer norm 1 [C]
//  9, 10, 11 q1, k1, v1 [C, C]   12, 13 out1 [C, C], [C]   14, 15 layer norm 2 [C]   16 q2 [C, C]   17, 18 k2, v2 [C, D]
// 19, 20 out2 [C, C], [C]   21, 22 layer norm 3 [C]   23, 24 up [2 F, C], [2 F]   25, 26 down [C, F], [C]
// 27, 28 proj_out [C, C], [C]   -> y [L, C, H, W]
#include "arguments.h"
#include "attention.h"
#include "maps.h"
#include "norms.h"

namespace ddim {
namespace {

struct Transformer {
  const Arguments& in;
  long groups, heads;
  float group_epsilon, layer_epsilon, scale;
  long C, P, T, D, F;

  explicit Transformer(const Arguments& arguments) : in(arguments) {
    const float* settings = in.in(1);
    groups = static_cast<long>(settings[0]), group_epsilon = settings[1], heads = static_cast<long>(settings[2]);
    layer_epsilon = settings[3], scale = settings[4];
    C = in.size(0, 1), P = in.size(0, 2) * in.size(0, 3), T = in.size(2, 1), D = in.size(2, 2), F = in.size(25, 1);
  }

  struct Space {
    float *x, *hidden, *normed, *q, *k, *v, *attended, *up, *weights, *text;
    Space(const Transformer& t, Scratch& s)
        : x(s.map(t.C, t.P)),
          hidden(s.map(t.C, t.P)),
          normed(s.map(t.C, t.P)),
          q(s.map(t.C, t.P)),
          k(s.map(t.C, t.P > t.T ? t.P : t.T)),
          v(s.map(t.C, t.P > t.T ? t.P : t.T)),
          attended(s.map(t.C, t.P)),
          up(s.map(2 * t.F, t.P)),
          weights(s.take(attention_floats(t.P > t.T ? t.P : t.T))),
          text(s.map(t.D, t.T)) {}
  };
  long floats() const {
    Scratch counting(nullptr);
    Space(*this, counting);
    return counting.used();
  }

  void run(long lane, Scratch scratch) const {
    const float* x = in.in(0) + lane * C * P;
    float* y = in.out() + lane * C * P;
    if (at_rest(x)) return mark_at_rest(y);
    Space space(*this, scratch);
    pad_rows(x, C, P, space.x);
    group_norm(space.x, C, P, groups, Norm{in.in(3), in.in(4), group_epsilon}, false, space.normed);
    project(5, space.normed, in.in(6), nullptr, space.hidden);

    self_attention(space);
    cross_attention(in.in(2) + lane * T * D, space);
    feed_forward(space);

    const bool in_place = padded(P) == P;
    float* result = in_place ? y : space.normed;
    project(27, space.hidden, in.in(28), space.x, result);
    if (!in_place) unpad_rows(result, C, P, y);
  }

  void self_attention(const Space& s) const {
    layer_norm(s.hidden, C, P, Norm{in.in(7), in.in(8), layer_epsilon}, s.normed);
    project(9, s.normed, nullptr, nullptr, s.q);
    project(10, s.normed, nullptr, nullptr, s.k);
    project(11, s.normed, nullptr, nullptr, s.v);
    attend(s.q, s.k, s.v, C, heads, P, P, padded(P), scale, s.weights, s.attended);
    project(12, s.attended, in.in(13), s.hidden, s.hidden);
  }

  void cross_attention(const float* text, const Space& s) const {
    layer_norm(s.hidden, C, P, Norm{in.in(14), in.in(15), layer_epsilon}, s.normed);
    project(16, s.normed, nullptr, nullptr, s.q);
    const long row = padded(T);
    for (long d = 0; d < D; d++)
      for (long t = 0; t < row; t++) s.text[d * row + t] = t < T ? text[t * D + d] : 0.0f;
    weigh(in.in(17), s.text, row, C, D, row, s.k, row);
    weigh(in.in(18), s.text, row, C, D, row, s.v, row);
    attend(s.q, s.k, s.v, C, heads, P, T, row, scale, s.weights, s.attended);
    project(19, s.attended, in.in(20), s.hidden, s.hidden);
  }

  void feed_forward(const Space& s) const {
    const long row = padded(P), gates = F * row;
    layer_norm(s.hidden, C, P, Norm{in.in(21), in.in(22), layer_epsilon}, s.normed);
    Finish up, down;
    up.bias = in.in(24);
    weigh(in.in(23), s.normed, row, 2 * F, C, row, s.up, row, up);
    for (long i = 0; i < gates; i += WIDTH) store(s.up + i, load(s.up + i) * gelu(load(s.up + gates + i)));
    down.bias = in.in(26), down.residual = s.hidden, down.residual_row = row;
    weigh(in.in(25), s.up, row, C, F, row, s.hidden, row, down);
  }

  // to = weights[C, C] from + bias + residual; the weights are argument number i.
  void project(int i, const float* from, const float* bias, const float* residual, float* to) const {
    Finish finish;
    finish.bias = bias, finish.residual = residual, finish.residual_row = padded(P);
    weigh(in.in(i), from, padded(P), C, C, padded(P), to, padded(P), finish);
  }
};

}  // namespace
}  // namespace ddim

DDIM_KERNEL(transformer) {
  using namespace ddim;
  if (!arguments.are(30)) return BAD_ARGUMENT;
  Transformer kernel(arguments);
  return each_lane(arguments.size(0, 0), kernel.floats(), kernel);
}
