// What surrounds the denoiser in a step of the reverse process: the lanes' x and t, and the update to their next state.
//
// A lane's state is x_t and five numbers: the row of the bank that it is at, the lanes of its sample's conditional and
// unconditional output, guidance scale and guidance rescale. A row of the bank is: next row, timestep, x0 from x, x0 from
// the output, eps from x, eps from the output, x_prev from x0, x_prev from eps, sigma, x0's limit, the quantile of dynamic
// thresholding and its limit. Row 0 is that of a lane at rest, which keeps its state. (step.py and bank.py of this package.)
//
//   lane_x   0 state [L, N + 5]   1 settings [marks]   2 like [L, C, h, w]   -> x [L, C, h, w]
//   lane_t   0 state [L, N + 5]   1 settings [marks]   2 bank [R, 12]        -> t [L]
//   update   0 out [L, C, h, w]   1 settings [thresholding]   2 state [L, N + 5]   3 bank [R, 12]   4 z [L, C, h, w]
//            -> state [L, N + 5]
//
// With marks, lanes at rest are marked so in x and t, and the denoiser's kernels pass over them.
#include "arguments.h"
#include "reduce.h"

namespace ddim {
namespace {

constexpr long NUMBERS = 5, COLUMNS = 12;
enum Number { ROW, CONDITIONAL, UNCONDITIONAL, SCALE, RESCALE };
enum Column {
  NEXT_ROW, TIMESTEP, X0_FROM_X, X0_FROM_OUT, EPS_FROM_X, EPS_FROM_OUT,
  PREV_FROM_X0, PREV_FROM_EPS, SIGMA, X0_LIMIT, QUANTILE, THRESHOLD_LIMIT
};

Status lane_x(const Arguments& in) {
  const long size = in.size(0, 1), N = size - NUMBERS;
  for (long lane = 0; lane < in.size(0, 0); lane++) {
    const float* state = in.in(0) + lane * size;
    float* x = in.out() + lane * N;
    memcpy(x, state, N * sizeof(float));
    if (in.in(1)[0] != 0 && state[N + ROW] == 0) mark_at_rest(x);
  }
  return OK;
}

Status lane_t(const Arguments& in) {
  const long size = in.size(0, 1), N = size - NUMBERS;
  for (long lane = 0; lane < in.size(0, 0); lane++) {
    const float row = in.in(0)[lane * size + N + ROW];
    float* t = in.out() + lane;
    *t = in.in(2)[static_cast<long>(row) * COLUMNS + TIMESTEP];
    if (in.in(1)[0] != 0 && row == 0) mark_at_rest(t);
  }
  return OK;
}

// Standard deviation of a population, from a second pass.
float deviation(const float* x, long n) {
  PartialSums sum, squares;
  add_row(sum, n, [&](long i) { return load(x + i); });
  const Vec mean = splat(sum.total() / static_cast<float>(n));
  add_row(squares, n, [&](long i) {
    Vec d = load(x + i) - mean;
    return d * d;
  });
  return square_root(squares.total() / static_cast<float>(n));
}

// The order of |x| of floats as that of integers: NaN comes last.
uint32_t magnitude(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits & 0x7FFFFFFF;
}

// The k-th smallest of n, counted from 0; changes their order (Hoare's quickselect).
float select(uint32_t* values, long n, long k) {
  long low = 0, high = n - 1;
  while (low < high) {
    const uint32_t pivot = values[low + (high - low) / 2];
    long i = low, j = high;
    while (i <= j) {
      while (values[i] < pivot) i++;
      while (values[j] > pivot) j--;
      if (i > j) break;
      const uint32_t swapped = values[i];
      values[i++] = values[j], values[j--] = swapped;
    }
    if (k <= j) high = j;
    else if (k >= i) low = i;
    else break;
  }
  float x;
  memcpy(&x, &values[k], sizeof x);
  return x;
}

struct Update {
  const Arguments& in;
  bool thresholding;
  long size, N;

  explicit Update(const Arguments& arguments)
      : in(arguments), thresholding(in.in(1)[0] != 0), size(in.size(2, 1)), N(size - NUMBERS) {}

  struct Space {
    float *x, *z, *conditional, *guided, *x0, *eps, *order;
    Space(long N, Scratch& s)
        : x(s.take(N)), z(s.take(N)), conditional(s.take(N)), guided(s.take(N)), x0(s.take(N)), eps(s.take(N)),
          order(s.take(N)) {}
  };
  long floats() const {
    Scratch counting(nullptr);
    Space(N, counting);
    return counting.used();
  }

  void run(long lane, Scratch scratch) const {
    const float *state = in.in(2) + lane * size, *numbers = state + N;
    float* to = in.out() + lane * size;
    if (numbers[ROW] == 0) {
      memcpy(to, state, size * sizeof(float));
      return;
    }
    Space s(N, scratch);
    const float* at = in.in(3) + static_cast<long>(numbers[ROW]) * COLUMNS;
    copy(state, s.x);
    copy(in.in(4) + lane * N, s.z);
    guide(numbers, s);
    predict(at, s);
    if (thresholding && at[QUANTILE] > 0) threshold(at, s);
    // Eq. (12) of DDIM, https://arxiv.org/abs/2010.02502.
    each(s.guided, [&](long i) {
      return splat(at[PREV_FROM_X0]) * load(s.x0 + i) + splat(at[PREV_FROM_EPS]) * load(s.eps + i) +
             splat(at[SIGMA]) * load(s.z + i);
    });
    memcpy(to, s.guided, N * sizeof(float));
    memcpy(to + N, numbers, NUMBERS * sizeof(float));
    to[N + ROW] = at[NEXT_ROW];
  }

  // Classifier-free guidance, rescaled as in Eq. (15), (16) of https://arxiv.org/abs/2305.08891.
  void guide(const float* numbers, const Space& s) const {
    const long first = static_cast<long>(numbers[CONDITIONAL]), second = static_cast<long>(numbers[UNCONDITIONAL]);
    if (first == second) return copy(in.in(0) + first * N, s.guided);
    copy(in.in(0) + first * N, s.conditional);
    copy(in.in(0) + second * N, s.guided);
    const Vec scale = splat(numbers[SCALE]), phi = splat(numbers[RESCALE]), rest = splat(1.0f) - phi;
    each(s.guided, [&](long i) {
      Vec away = load(s.guided + i);
      return away + scale * (load(s.conditional + i) - away);
    });
    if (!(numbers[RESCALE] > 0)) return;
    const Vec ratio = splat(deviation(s.conditional, N) / deviation(s.guided, N));
    each(s.guided, [&](long i) { return phi * (load(s.guided + i) * ratio) + rest * load(s.guided + i); });
  }

  // x_0, clipped, and the direction that points to x_t.
  void predict(const float* at, const Space& s) const {
    each(s.x0, [&](long i) {
      Vec x0 = splat(at[X0_FROM_X]) * load(s.x + i) + splat(at[X0_FROM_OUT]) * load(s.guided + i);
      return smaller(larger(x0, splat(-at[X0_LIMIT])), splat(at[X0_LIMIT]));
    });
    each(s.eps, [&](long i) {
      return splat(at[EPS_FROM_X]) * load(s.x + i) + splat(at[EPS_FROM_OUT]) * load(s.guided + i);
    });
  }

  // Dynamic thresholding, section 2.3 of Imagen, https://arxiv.org/abs/2205.11487: clip to the quantile s of |x_0|, which
  // lies between two of them, and divide by it.
  void threshold(const float* at, const Space& s) const {
    uint32_t* order = reinterpret_cast<uint32_t*>(s.order);
    for (long i = 0; i < N; i++) order[i] = magnitude(s.x0[i]);
    const float place = at[QUANTILE] * static_cast<float>(N - 1);
    const long below = static_cast<long>(place);
    const float part = place - static_cast<float>(below);
    const float low = select(order, N, below), high = select(order, N, part > 0 ? below + 1 : below);
    float limit = low + (high - low) * part;
    limit = limit < 1.0f ? 1.0f : limit;
    limit = limit > at[THRESHOLD_LIMIT] ? at[THRESHOLD_LIMIT] : limit;
    each(s.x0, [&](long i) {
      return smaller(larger(load(s.x0 + i), splat(-limit)), splat(limit)) / splat(limit);
    });
  }

  void copy(const float* from, float* to) const {
    memcpy(to, from, N * sizeof(float));
    memset(to + N, 0, (padded(N) - N) * sizeof(float));
  }

  template <class Value>
  void each(float* to, Value value) const {
    for (long i = 0; i < padded(N); i += WIDTH) store(to + i, value(i));
  }
};

}  // namespace
}  // namespace ddim

DDIM_KERNEL(lane_x) {
  if (!arguments.are(4)) return ddim::BAD_ARGUMENT;
  return ddim::lane_x(arguments);
}

DDIM_KERNEL(lane_t) {
  if (!arguments.are(4)) return ddim::BAD_ARGUMENT;
  return ddim::lane_t(arguments);
}

DDIM_KERNEL(update) {
  using namespace ddim;
  if (!arguments.are(6)) return BAD_ARGUMENT;
  Update kernel(arguments);
  return each_lane(arguments.size(2, 0), kernel.floats(), kernel);
}
