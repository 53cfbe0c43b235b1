// A residual block of a UNet or VAE: ResnetBlock2D of diffusers.
//
//   h = conv1(silu(group_norm1([x, skip])))                    [L, O, H, W]
//   h = h + time_weight silu(time) + time_bias                 of each channel, where the block knows the time
//   y = conv2(silu(group_norm2(h))) + shortcut([x, skip])      the shortcut is 1x1, or nothing where O = C
//
//  0 x [L, C1, H, W]   1 settings [groups1, groups2, epsilon1, epsilon2, has time, has shortcut, has skip]
//  2 skip [L, C2, H, W]   3 time [L, E]   4, 5 norm1 [C]   6, 7 conv1 [O, C, 3, 3], [O]   8, 9 time [O, E], [O]
// 10, 11 norm2 [O]   12, 13 conv2 [O, O, 3, 3], [O]   14, 15 shortcut [O, C, 1, 1], [O]   -> y [L, O, H, W]
//
// C = C1 + C2; E is a multiple of 16. What the settings leave out may be any tensor.
#include "arguments.h"
#include "convolution.h"
#include "maps.h"
#include "norms.h"

namespace ddim {
namespace {

struct Resnet {
  const Arguments& in;
  long groups1, groups2;
  float epsilon1, epsilon2;
  bool has_time, has_shortcut, has_skip;
  long C1, C2, C, O, H, W, P, E;

  explicit Resnet(const Arguments& arguments) : in(arguments) {
    const float* settings = in.in(1);
    groups1 = static_cast<long>(settings[0]), groups2 = static_cast<long>(settings[1]);
    epsilon1 = settings[2], epsilon2 = settings[3];
    has_time = settings[4] != 0, has_shortcut = settings[5] != 0, has_skip = settings[6] != 0;
    C1 = in.size(0, 1), C2 = has_skip ? in.size(2, 1) : 0, C = C1 + C2, O = in.out_size(1);
    H = in.size(0, 2), W = in.size(0, 3), P = H * W, E = has_time ? in.size(3, 1) : 0;
  }

  struct Space {
    float *x, *normed, *hidden, *copies, *time, *shift;
    Space(const Resnet& r, Scratch& s)
        : x(s.map(r.C, r.P)),
          normed(s.map(r.C > r.O ? r.C : r.O, r.P)),
          hidden(s.map(r.O, r.P)),
          copies(s.take(r.copied())),
          time(s.take(r.E)),
          shift(s.take(r.O)) {}
  };
  // Of either convolution: the one with fewer channels has longer bands, and may need more.
  long copied() const {
    const long first = convolution_floats(C, H, W), second = convolution_floats(O, H, W);
    return first > second ? first : second;
  }
  long floats() const {
    Scratch counting(nullptr);
    Space(*this, counting);
    return counting.used();
  }

  void run(long lane, Scratch scratch) const {
    const float* x = in.in(0) + lane * C1 * P;
    float* y = in.out() + lane * O * P;
    if (at_rest(x)) return mark_at_rest(y);
    Space space(*this, scratch);
    pad_rows(x, C1, P, space.x);
    if (has_skip) pad_rows(in.in(2) + lane * C2 * P, C2, P, space.x + C1 * padded(P));

    Finish first;
    first.bias = in.in(7);
    if (has_time) first.shift = shift_of(in.in(3) + lane * E, space);
    group_norm(space.x, C, P, groups1, Norm{in.in(4), in.in(5), epsilon1}, true, space.normed);
    convolve_3x3(in.in(6), space.normed, C, O, H, W, space.copies, space.hidden, first);
    group_norm(space.hidden, O, P, groups2, Norm{in.in(10), in.in(11), epsilon2}, true, space.normed);

    Finish second;
    second.bias = in.in(13);
    second.residual = space.x;
    second.residual_row = padded(P);
    if (has_shortcut) {
      Finish biased;
      biased.bias = in.in(15);
      weigh(in.in(14), space.x, padded(P), O, C, padded(P), space.hidden, padded(P), biased);
      second.residual = space.hidden;
    }
    const bool in_place = padded(P) == P;
    float* result = in_place ? y : space.hidden;
    convolve_3x3(in.in(12), space.normed, O, O, H, W, space.copies, result, second);
    if (!in_place) unpad_rows(result, O, P, y);
  }

  const float* shift_of(const float* time, const Space& space) const {
    for (long i = 0; i < E; i += WIDTH) store(space.time + i, silu(load(time + i)));
    for (long o = 0; o < O; o++) space.shift[o] = dot(in.in(8) + o * E, space.time, E) + in.in(9)[o];
    return space.shift;
  }
};

}  // namespace
}  // namespace ddim

DDIM_KERNEL(resnet) {
  using namespace ddim;
  if (!arguments.are(17)) return BAD_ARGUMENT;
  Resnet kernel(arguments);
  if (kernel.has_skip && (arguments.size(2, 2) != kernel.H || arguments.size(2, 3) != kernel.W)) return BAD_ARGUMENT;
  return each_lane(arguments.size(0, 0), kernel.floats(), kernel);
}
