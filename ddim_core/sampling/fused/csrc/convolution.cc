// A 3x3 convolution by itself: conv_in; conv_norm_out, SiLU and conv_out; Upsample2D and Downsample2D of diffusers.
//
//   convolution         y = conv(x), or conv(silu(group_norm(x))) with groups above 0   [L, O, H, W]
//   upsample            y = conv(x with every pixel twice in each direction)            [L, O, 2 H, 2 W]
//   downsample          y = conv(x) with stride 2, zeros on all sides                   [L, O, (H + 1) / 2, (W + 1) / 2]
//   downsample_corner   the same with zeros below and to the right alone                [L, O, H / 2, W / 2]
//
// 0 x [L, C, H, W]   1 settings [groups, epsilon]   2, 3 norm [C], or any   4, 5 conv [O, C, 3, 3], [O]   -> y
#include "arguments.h"
#include "convolution.h"
#include "maps.h"
#include "norms.h"

namespace ddim {
namespace {

enum Kind { PLAIN, UP, DOWN, DOWN_CORNER };

struct Convolution {
  const Arguments& in;
  Kind kind;
  long groups;
  float epsilon;
  long C, O, H, W, out_H, out_W;

  Convolution(const Arguments& arguments, Kind which) : in(arguments), kind(which) {
    groups = static_cast<long>(in.in(1)[0]), epsilon = in.in(1)[1];
    C = in.size(0, 1), H = in.size(0, 2), W = in.size(0, 3);
    O = in.out_size(1), out_H = in.out_size(2), out_W = in.out_size(3);
  }

  struct Space {
    float *x, *prepared, *result, *taps;
    Space(const Convolution& c, Scratch& s)
        : x(s.map(c.C, c.H * c.W)),
          prepared(s.map(c.C, c.kind == UP ? c.out_H * c.out_W : c.H * c.W)),
          result(s.map(c.O, c.out_H * c.out_W)),
          taps(s.take(c.strided() ? strided_floats(c.C) : convolution_floats(c.C, c.out_H, c.out_W))) {}
  };
  bool strided() const { return kind == DOWN || kind == DOWN_CORNER; }
  long floats() const {
    Scratch counting(nullptr);
    Space(*this, counting);
    return counting.used();
  }

  void run(long lane, Scratch scratch) const {
    const float* x = in.in(0) + lane * C * H * W;
    const long P = out_H * out_W;
    float* y = in.out() + lane * O * P;
    if (at_rest(x)) return mark_at_rest(y);
    Space space(*this, scratch);
    pad_rows(x, C, H * W, space.x);
    const bool in_place = padded(P) == P;
    float* result = in_place ? y : space.result;
    Finish biased;
    biased.bias = in.in(5);
    if (strided())
      convolve_strided(in.in(4), space.x, C, O, H, W, kind == DOWN ? 1 : 0, out_H, out_W, space.taps, result, biased);
    else
      convolve_3x3(in.in(4), prepared(space), C, O, out_H, out_W, space.taps, result, biased);
    if (!in_place) unpad_rows(result, O, P, y);
  }

  const float* prepared(const Space& space) const {
    if (kind == UP) {
      double_pixels(space.x, space.prepared);
      return space.prepared;
    }
    if (groups == 0) return space.x;
    group_norm(space.x, C, H * W, groups, Norm{in.in(2), in.in(3), epsilon}, true, space.prepared);
    return space.prepared;
  }

  void double_pixels(const float* x, float* to) const {
    const long x_row = padded(H * W), row = padded(out_H * out_W);
    for (long c = 0; c < C; c++) {
      for (long i = 0; i < out_H; i++)
        for (long j = 0; j < out_W; j++) to[c * row + i * out_W + j] = x[c * x_row + i / 2 * W + j / 2];
      memset(to + c * row + out_H * out_W, 0, (row - out_H * out_W) * sizeof(float));
    }
  }
};

Status convolve(const Arguments& arguments, Kind kind) {
  if (!arguments.are(7)) return BAD_ARGUMENT;
  Convolution kernel(arguments, kind);
  return each_lane(arguments.size(0, 0), kernel.floats(), kernel);
}

}  // namespace
}  // namespace ddim

DDIM_KERNEL(convolution) { return ddim::convolve(arguments, ddim::PLAIN); }
DDIM_KERNEL(upsample) { return ddim::convolve(arguments, ddim::UP); }
DDIM_KERNEL(downsample) { return ddim::convolve(arguments, ddim::DOWN); }
DDIM_KERNEL(downsample_corner) { return ddim::convolve(arguments, ddim::DOWN_CORNER); }
