// Deformable attention on the CPU.
//
// One (image, query) at a time: first a table of all corners that its points read, computed for
// many points at once and free of branches, then nothing but row updates of `channels` numbers held
// in registers. Corners outside the map get the share 0 and a token inside it, so that every
// address is good whatever the coordinates are.
//
// Every variant below is the same source with another vector width. It is chosen once by what the
// processor can do; compiling for the machine at hand would make vectors wider than its registers.

#include <algorithm>
#include <cmath>
#include <tuple>
#include <type_traits>

#include "bilinear.h"
#include "problem.h"

#define INLINE inline __attribute__((always_inline))

namespace calibnet {
namespace {

using torch::stable::new_empty;
using torch::stable::new_zeros;
using torch::stable::parallel_for;

struct BFloat16 {
  uint16_t bits;
};

constexpr int64_t kQueriesPerBlock = 16;  // of the backward pass: fills vectors with points
constexpr int64_t kGrain = 32;            // queries that are worth a thread

// Sizes of the target level of every point of a block; the pattern repeats every `samples` points.
template <typename Real>
struct PointLevels {
  std::vector<Real> width_real, height_real;
  std::vector<int32_t> width, height, start;

  PointLevels(const Problem& problem, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      const Level& level = problem.levels[(i / problem.points) % problem.levels.size()];
      width_real.push_back(static_cast<Real>(level.width));
      height_real.push_back(static_cast<Real>(level.height));
      width.push_back(level.width);
      height.push_back(level.height);
      start.push_back(level.start);
    }
  }
};

// One call, as plain pointers. Drop-in: `places` are normalised locations and `mixing` weights.
// Fused: both lie in `places`, a query's offsets in cells before its logits, and `reference` is
// null where every token is a query.
template <typename Value, typename Real>
struct Call {
  const Problem& problem;
  const PointLevels<Real>& point_levels;
  const Value* value;
  const Real* places;
  const Real* mixing;
  const Real* reference;
  Value* output;             // forward
  const Value* grad_output;  // backward, as is all below
  Real* grad_value;
  Real* grad_places;
  Real* grad_mixing;
};

// Working memory of one thread; every array has room for the points of one block.
template <typename Real>
struct Scratch {
  std::vector<Real> reals;
  std::vector<int32_t> integers;
  int64_t count;

  explicit Scratch(int64_t count) : reals(20 * count), integers(4 * count), count(count) {}
  Real* real(int index) { return reals.data() + index * count; }
  int32_t* integer(int index) { return integers.data() + index * count; }
};

// ---- vectors -----------------------------------------------------------------------------------

template <typename Element, int Bytes>
struct VectorOf {
  typedef Element Type __attribute__((vector_size(Bytes)));
};

template <typename Real, int Bytes>
struct Simd {
  using Vector = typename VectorOf<Real, Bytes>::Type;
  static constexpr int kLanes = Bytes / sizeof(Real);

  static INLINE Vector load(const Real* from) {
    Vector vector;
    __builtin_memcpy(&vector, from, sizeof(vector));
    return vector;
  }

  static INLINE Vector load(const BFloat16* from) {
    using Narrow = typename VectorOf<uint16_t, Bytes / 2>::Type;
    using Wide = typename VectorOf<uint32_t, Bytes>::Type;
    Narrow narrow;
    __builtin_memcpy(&narrow, from, sizeof(narrow));
    const Wide wide = __builtin_convertvector(narrow, Wide) << 16;
    Vector vector;
    __builtin_memcpy(&vector, &wide, sizeof(vector));
    return vector;
  }

  static INLINE void store(Real* to, Vector vector) {
    __builtin_memcpy(to, &vector, sizeof(vector));
  }

  static INLINE void store(BFloat16* to, Vector vector) {  // to the nearest, ties to even
    using Narrow = typename VectorOf<uint16_t, Bytes / 2>::Type;
    using Wide = typename VectorOf<uint32_t, Bytes>::Type;
    Wide bits;
    __builtin_memcpy(&bits, &vector, sizeof(bits));
    const Wide rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    // Rounding would carry some NaNs over into infinity.
    const Wide chosen = vector == vector ? rounded : rounded * 0 + 0x7fc0u;
    const Narrow narrow = __builtin_convertvector(chosen, Narrow);
    __builtin_memcpy(to, &narrow, sizeof(narrow));
  }

  static INLINE Real sum(Vector vector) {
    if constexpr (kLanes == 1) {
      return vector[0];
    } else {
      using Half = Simd<Real, Bytes / 2>;
      typename Half::Vector low, high;
      __builtin_memcpy(&low, &vector, sizeof(low));
      __builtin_memcpy(&high, reinterpret_cast<char*>(&vector) + sizeof(low), sizeof(high));
      return Half::sum(low + high);
    }
  }
};

// e to the power of x, for x <= 0 or NaN; relative error below 2e-7. 0 below -87, near where the
// normal numbers end.
INLINE float exp_of_negative(float x) {
  const bool vanishes = x < -87.0f;
  x = vanishes ? -87.0f : x;
  // Adding 1.5 * 2^23 rounds to a whole number and leaves it in the lowest bits.
  const float shifted = x * 1.44269504f + 12582912.0f;
  const float whole = shifted - 12582912.0f;
  const float rest = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;  // ln 2 in two parts
  float series = 1.0f + rest / 7.0f;
  series = 1.0f + rest * series * (1.0f / 6.0f);
  series = 1.0f + rest * series * (1.0f / 5.0f);
  series = 1.0f + rest * series * (1.0f / 4.0f);
  series = 1.0f + rest * series * (1.0f / 3.0f);
  series = 1.0f + rest * series * (1.0f / 2.0f);
  series = 1.0f + rest * series;
  uint32_t bits;
  __builtin_memcpy(&bits, &shifted, sizeof(bits));
  bits = (bits + 127u) << 23;
  float power;
  __builtin_memcpy(&power, &bits, sizeof(power));
  power = vanishes ? 0.0f : power;
  return series * power;
}
INLINE double exp_of_negative(double x) { return std::exp(x); }

// ---- the corner table --------------------------------------------------------------------------

// Corner c (upper left, upper right, lower left, lower right) of point i stands at c * pitch + i.
template <typename Real>
struct Corners {
  const int32_t* token;
  const Real* share;  // bilinear share times attention weight
  int64_t pitch;
};

// Fill reals 0-3 (shares times weight) and integers 0-3 (tokens) of the scratch; for a gradient
// also reals 4-11 with the lines' shares and insideness.
template <bool Gradient, typename Real>
INLINE Corners<Real> build_corners(int64_t count, const Real* __restrict__ x,
                                   const Real* __restrict__ y, const Real* __restrict__ weight,
                                   const PointLevels<Real>& levels, Scratch<Real>& scratch) {
  const int32_t* __restrict__ width = levels.width.data();
  const int32_t* __restrict__ height = levels.height.data();
  const int32_t* __restrict__ start = levels.start.data();
  int32_t* __restrict__ token = scratch.integer(0);
  Real* __restrict__ share = scratch.real(0);
  Real* __restrict__ lines = scratch.real(4);
  const int64_t pitch = scratch.count;
#pragma GCC ivdep  // the arrays do not overlap, as count <= pitch
  for (int64_t i = 0; i < count; ++i) {
    const Lines<Real> column = lines_around(x[i], width[i]);
    const Lines<Real> row = lines_around(y[i], height[i]);
    const int32_t upper_row = start[i] + row.lower * width[i];
    const int32_t lower_row = start[i] + row.upper * width[i];
    token[i] = upper_row + column.lower;
    token[i + pitch] = upper_row + column.upper;
    token[i + 2 * pitch] = lower_row + column.lower;
    token[i + 3 * pitch] = lower_row + column.upper;
    share[i] = row.lower_share * column.lower_share * weight[i];
    share[i + pitch] = row.lower_share * column.upper_share * weight[i];
    share[i + 2 * pitch] = row.upper_share * column.lower_share * weight[i];
    share[i + 3 * pitch] = row.upper_share * column.upper_share * weight[i];
    if constexpr (Gradient) {
      lines[i] = column.lower_share;
      lines[i + pitch] = column.upper_share;
      lines[i + 2 * pitch] = row.lower_share;
      lines[i + 3 * pitch] = row.upper_share;
      lines[i + 4 * pitch] = column.lower_inside;
      lines[i + 5 * pitch] = column.upper_inside;
      lines[i + 6 * pitch] = row.lower_inside;
      lines[i + 7 * pitch] = row.upper_inside;
    }
  }
  return {token, share, pitch};
}

// Pixel coordinates of `count` points from interleaved x, y; the outer edges of the map are at
// -0.5 and size - 0.5.
template <typename Real>
INLINE void pixels_from_locations(int64_t count, const Real* __restrict__ locations,
                                  const Real* __restrict__ width, const Real* __restrict__ height,
                                  Real* __restrict__ x, Real* __restrict__ y) {
  for (int64_t i = 0; i < count; ++i) {
    x[i] = locations[2 * i] * width[i] - Real(0.5);
    y[i] = locations[2 * i + 1] * height[i] - Real(0.5);
  }
}

template <typename Real>
INLINE void pixels_from_offsets(int64_t count, const Real* __restrict__ offsets, Real reference_x,
                                Real reference_y, const Real* __restrict__ width,
                                const Real* __restrict__ height, Real* __restrict__ x,
                                Real* __restrict__ y) {
  for (int64_t i = 0; i < count; ++i) {
    x[i] = reference_x * width[i] - Real(0.5) + offsets[2 * i];
    y[i] = reference_y * height[i] - Real(0.5) + offsets[2 * i + 1];
  }
}

// Softmax over each run of `length` logits. NaN and infinity come out as NaN, as from torch.
template <typename Real>
INLINE void softmax_runs(int64_t runs, int64_t length, const Real* __restrict__ logits,
                         Real* __restrict__ weights) {
  for (int64_t run = 0; run < runs; ++run) {
    const Real* __restrict__ from = logits + run * length;
    Real* __restrict__ to = weights + run * length;
    Real largest = from[0];
    for (int64_t i = 1; i < length; ++i) largest = from[i] > largest ? from[i] : largest;
    for (int64_t i = 0; i < length; ++i) to[i] = from[i] - largest;
  }
  for (int64_t i = 0; i < runs * length; ++i) weights[i] = exp_of_negative(weights[i]);
  for (int64_t run = 0; run < runs; ++run) {
    Real* __restrict__ to = weights + run * length;
    Real total = 0;
    for (int64_t i = 0; i < length; ++i) total += to[i];
    const Real factor = Real(1) / total;
    for (int64_t i = 0; i < length; ++i) to[i] *= factor;
  }
}

// Where query `query` looks from, in 0..1: its own reference point, or the centre of its own cell.
template <typename Real>
INLINE void reference_point(const Problem& problem, const Real* reference, int64_t image,
                            int64_t query, Real& x, Real& y) {
  if (reference != nullptr) {
    x = reference[2 * (image * problem.queries + query)];
    y = reference[2 * (image * problem.queries + query) + 1];
    return;
  }
  size_t index = problem.levels.size() - 1;
  while (problem.levels[index].start > query) --index;
  const Level& level = problem.levels[index];
  const int32_t cell = static_cast<int32_t>(query) - level.start;
  x = (static_cast<Real>(cell % level.width) + Real(0.5)) / static_cast<Real>(level.width);
  y = (static_cast<Real>(cell / level.width) + Real(0.5)) / static_cast<Real>(level.height);
}

// ---- forward -----------------------------------------------------------------------------------

// Add `count` points' corners for `Vectors` vectors of channels.
template <int Bytes, int Vectors, typename Value, typename Real>
INLINE void sum_corners(const Value* base, int64_t pitch, const Corners<Real>& corners,
                        int64_t first, int64_t count, Value* output) {
  using S = Simd<Real, Bytes>;
  typename S::Vector sums[Vectors] = {};
  for (int64_t i = first; i < first + count; ++i) {
#pragma GCC unroll 4
    for (int corner = 0; corner < 4; ++corner) {
      const Value* row = base + corners.token[corner * corners.pitch + i] * pitch;
      const Real share = corners.share[corner * corners.pitch + i];
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) sums[v] += share * S::load(row + v * S::kLanes);
    }
  }
#pragma GCC unroll 8
  for (int v = 0; v < Vectors; ++v) S::store(output + v * S::kLanes, sums[v]);
}

template <int Bytes, typename Value, typename Real>
INLINE void sum_head(const Value* base, int64_t pitch, int64_t channels,
                     const Corners<Real>& corners, int64_t first, int64_t count, Value* output) {
  constexpr int64_t kLanes = Simd<Real, Bytes>::kLanes;
  int64_t c = 0;
  for (; c + 8 * kLanes <= channels; c += 8 * kLanes) {
    sum_corners<Bytes, 8>(base + c, pitch, corners, first, count, output + c);
  }
  if (c + 4 * kLanes <= channels) {
    sum_corners<Bytes, 4>(base + c, pitch, corners, first, count, output + c);
    c += 4 * kLanes;
  }
  if (c + 2 * kLanes <= channels) {
    sum_corners<Bytes, 2>(base + c, pitch, corners, first, count, output + c);
    c += 2 * kLanes;
  }
  if (c + kLanes <= channels) {
    sum_corners<Bytes, 1>(base + c, pitch, corners, first, count, output + c);
    c += kLanes;
  }
  if constexpr (kLanes > 1) {  // what is left fills shorter vectors
    if (c < channels) {
      sum_head<Bytes / 2>(base + c, pitch, channels - c, corners, first, count, output + c);
    }
  }
}

// Queries [begin, end) of all images, counted through.
template <bool Fused, int Bytes, typename Value, typename Real>
INLINE void forward_queries(const Call<Value, Real>& call, int64_t begin, int64_t end) {
  const Problem& problem = call.problem;
  const int64_t samples = problem.samples(), count = problem.heads * samples;
  const int64_t pitch = problem.heads * problem.channels;
  const PointLevels<Real>& levels = call.point_levels;
  Scratch<Real> scratch(count);
  Real *x = scratch.real(12), *y = scratch.real(13), *softmax = scratch.real(14);
  for (int64_t row = begin; row < end; ++row) {
    const int64_t image = row / problem.queries;
    const Real* weights;
    if constexpr (Fused) {
      const Real* packed = call.places + row * 3 * count;
      Real reference_x, reference_y;
      reference_point(problem, call.reference, image, row % problem.queries, reference_x,
                      reference_y);
      pixels_from_offsets(count, packed, reference_x, reference_y, levels.width_real.data(),
                          levels.height_real.data(), x, y);
      softmax_runs(problem.heads, samples, packed + 2 * count, softmax);
      weights = softmax;
    } else {
      pixels_from_locations(count, call.places + row * 2 * count, levels.width_real.data(),
                            levels.height_real.data(), x, y);
      weights = call.mixing + row * count;
    }
    const Corners<Real> corners = build_corners<false>(count, x, y, weights, levels, scratch);
    const Value* base = call.value + image * problem.tokens * pitch;
    for (int64_t head = 0; head < problem.heads; ++head) {
      sum_head<Bytes>(base + head * problem.channels, pitch, problem.channels, corners,
                      head * samples, samples, call.output + row * pitch + head * problem.channels);
    }
  }
}

// ---- backward ----------------------------------------------------------------------------------

// For one query and head: add to the gradient of the value rows, and yield for every corner the
// product of its row with the upstream gradient, in `products` (count, 4).
template <int Bytes, int Vectors, typename Value, typename Real>
INLINE void spread_corners(const Value* base, Real* grad_base, int64_t pitch,
                           const Corners<Real>& corners, int64_t first, int64_t count,
                           const Value* upstream, Real* products) {
  using S = Simd<Real, Bytes>;
  typename S::Vector gradient[Vectors];
#pragma GCC unroll 8
  for (int v = 0; v < Vectors; ++v) gradient[v] = S::load(upstream + v * S::kLanes);
  for (int64_t i = first; i < first + count; ++i) {
#pragma GCC unroll 4
    for (int corner = 0; corner < 4; ++corner) {
      const int64_t offset = corners.token[corner * corners.pitch + i] * pitch;
      const Real share = corners.share[corner * corners.pitch + i];
      typename S::Vector product = {};
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) {
        product += gradient[v] * S::load(base + offset + v * S::kLanes);
        Real* grad_row = grad_base + offset + v * S::kLanes;
        S::store(grad_row, S::load(grad_row) + share * gradient[v]);
      }
      products[4 * (i - first) + corner] += S::sum(product);
    }
  }
}

template <int Bytes, typename Value, typename Real>
INLINE void spread_head(const Value* base, Real* grad_base, int64_t pitch, int64_t channels,
                        const Corners<Real>& corners, int64_t first, int64_t count,
                        const Value* upstream, Real* products) {
  constexpr int64_t kLanes = Simd<Real, Bytes>::kLanes;
  int64_t c = 0;
  for (; c + 4 * kLanes <= channels; c += 4 * kLanes) {
    spread_corners<Bytes, 4>(base + c, grad_base + c, pitch, corners, first, count, upstream + c,
                             products);
  }
  if (c + 2 * kLanes <= channels) {
    spread_corners<Bytes, 2>(base + c, grad_base + c, pitch, corners, first, count, upstream + c,
                             products);
    c += 2 * kLanes;
  }
  if (c + kLanes <= channels) {
    spread_corners<Bytes, 1>(base + c, grad_base + c, pitch, corners, first, count, upstream + c,
                             products);
    c += kLanes;
  }
  if constexpr (kLanes > 1) {
    if (c < channels) {
      spread_head<Bytes / 2>(base + c, grad_base + c, pitch, channels - c, corners, first, count,
                             upstream + c, products);
    }
  }
}

// From the corners' products to the gradients of each point: its weight, and its coordinates in
// pixels. A share falls by 1 per pixel at the lower line and rises by 1 at the upper one, where
// that line exists.
template <typename Real>
INLINE void point_gradients(int64_t count, const Real* __restrict__ products,
                            const Real* __restrict__ lines, int64_t pitch,
                            const Real* __restrict__ weight, Real* __restrict__ grad_weight,
                            Real* __restrict__ grad_x, Real* __restrict__ grad_y) {
  for (int64_t i = 0; i < count; ++i) {
    const Real column_lower = lines[i], column_upper = lines[i + pitch];
    const Real row_lower = lines[i + 2 * pitch], row_upper = lines[i + 3 * pitch];
    const Real left = lines[i + 4 * pitch], right = lines[i + 5 * pitch];
    const Real top = lines[i + 6 * pitch], bottom = lines[i + 7 * pitch];
    const Real p0 = products[4 * i], p1 = products[4 * i + 1];
    const Real p2 = products[4 * i + 2], p3 = products[4 * i + 3];
    const Real upper = column_lower * p0 + column_upper * p1;
    const Real lower = column_lower * p2 + column_upper * p3;
    grad_weight[i] = row_lower * upper + row_upper * lower;
    grad_x[i] =
        weight[i] * (row_lower * (right * p1 - left * p0) + row_upper * (right * p3 - left * p2));
    grad_y[i] = weight[i] * (bottom * lower - top * upper);
  }
}

// Slices [begin, end) of (image, head). A slice has its own channels of the value gradient, so no
// two threads write to one place and the order of every sum is fixed.
template <bool Fused, int Bytes, typename Value, typename Real>
INLINE void backward_slices(const Call<Value, Real>& call, int64_t begin, int64_t end) {
  const Problem& problem = call.problem;
  const int64_t samples = problem.samples(), per_query = problem.heads * samples;
  const int64_t pitch = problem.heads * problem.channels;
  const PointLevels<Real>& levels = call.point_levels;
  const int64_t block_count = kQueriesPerBlock * samples;
  Scratch<Real> scratch(block_count);
  Real *x = scratch.real(12), *y = scratch.real(13), *weight = scratch.real(14);
  Real *grad_weight = scratch.real(15), *products = scratch.real(16);  // up to 19
  for (int64_t slice = begin; slice < end; ++slice) {
    const int64_t image = slice / problem.heads, head = slice % problem.heads;
    const int64_t slab = image * problem.tokens * pitch + head * problem.channels;
    for (int64_t query = 0; query < problem.queries; query += kQueriesPerBlock) {
      const int64_t queries = std::min(kQueriesPerBlock, problem.queries - query);
      const int64_t count = queries * samples, first_row = image * problem.queries + query;
      for (int64_t q = 0; q < queries; ++q) {
        const int64_t row = first_row + q, point = q * samples;
        if constexpr (Fused) {
          const Real* packed = call.places + row * 3 * per_query;
          Real reference_x, reference_y;
          reference_point(problem, call.reference, image, query + q, reference_x, reference_y);
          pixels_from_offsets(samples, packed + head * 2 * samples, reference_x, reference_y,
                              levels.width_real.data(), levels.height_real.data(), x + point,
                              y + point);
          std::copy_n(packed + 2 * per_query + head * samples, samples, grad_weight + point);
        } else {
          const int64_t places = row * per_query + head * samples;
          pixels_from_locations(samples, call.places + 2 * places, levels.width_real.data(),
                                levels.height_real.data(), x + point, y + point);
          std::copy_n(call.mixing + places, samples, weight + point);
        }
      }
      if constexpr (Fused) softmax_runs(queries, samples, grad_weight, weight);
      const Corners<Real> corners = build_corners<true>(count, x, y, weight, levels, scratch);
      std::fill(products, products + 4 * count, Real(0));
      for (int64_t q = 0; q < queries; ++q) {
        spread_head<Bytes>(call.value + slab, call.grad_value + slab, pitch, problem.channels,
                           corners, q * samples, samples,
                           call.grad_output + (first_row + q) * pitch + head * problem.channels,
                           products + 4 * q * samples);
      }
      // The pixel coordinates are no longer needed; their gradients take their place.
      point_gradients(count, products, scratch.real(4), scratch.count, weight, grad_weight, x, y);
      for (int64_t q = 0; q < queries; ++q) {
        const int64_t row = first_row + q, point = q * samples;
        if constexpr (Fused) {
          Real* grad_offsets = call.grad_places + row * 3 * per_query + head * 2 * samples;
          Real* grad_logits =
              call.grad_places + row * 3 * per_query + 2 * per_query + head * samples;
          Real mean = 0;
          for (int64_t i = point; i < point + samples; ++i) mean += weight[i] * grad_weight[i];
          for (int64_t i = 0; i < samples; ++i) {
            grad_offsets[2 * i] = x[point + i];
            grad_offsets[2 * i + 1] = y[point + i];
            grad_logits[i] = weight[point + i] * (grad_weight[point + i] - mean);
          }
        } else {
          const int64_t places = row * per_query + head * samples;
          for (int64_t i = 0; i < samples; ++i) {
            call.grad_places[2 * (places + i)] = x[point + i] * levels.width_real[i];
            call.grad_places[2 * (places + i) + 1] = y[point + i] * levels.height_real[i];
            call.grad_mixing[places + i] = grad_weight[point + i];
          }
        }
      }
    }
  }
}

// ---- variants ----------------------------------------------------------------------------------

template <typename Value, typename Real>
using Worker = void (*)(const Call<Value, Real>&, int64_t, int64_t);

#define VARIANT(NAME, BYTES, ...)                                                               \
  template <bool Fused, typename Value, typename Real>                                          \
  __VA_ARGS__ void forward_##NAME(const Call<Value, Real>& call, int64_t begin, int64_t end) {  \
    forward_queries<Fused, BYTES>(call, begin, end);                                            \
  }                                                                                             \
  template <bool Fused, typename Value, typename Real>                                          \
  __VA_ARGS__ void backward_##NAME(const Call<Value, Real>& call, int64_t begin, int64_t end) { \
    backward_slices<Fused, BYTES>(call, begin, end);                                            \
  }

VARIANT(plain, 16)
#if defined(__x86_64__)
VARIANT(avx2, 32, __attribute__((target("avx2,fma"))))
VARIANT(avx512, 64, __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))))
#endif

enum Isa { kPlain, kAvx2, kAvx512 };

Isa best_isa() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return kAvx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return kAvx2;
#endif
  return kPlain;
}

Isa isa = best_isa();

template <bool Fused, bool Backward, typename Value, typename Real>
Worker<Value, Real> choose_worker() {
#if defined(__x86_64__)
  if (isa == kAvx512) {
    return Backward ? &backward_avx512<Fused, Value, Real> : &forward_avx512<Fused, Value, Real>;
  }
  if (isa == kAvx2) {
    return Backward ? &backward_avx2<Fused, Value, Real> : &forward_avx2<Fused, Value, Real>;
  }
#endif
  return Backward ? &backward_plain<Fused, Value, Real> : &forward_plain<Fused, Value, Real>;
}

// ---- the operators -----------------------------------------------------------------------------

using Gradients = std::tuple<Tensor, Tensor, Tensor>;

const void* data(const Tensor& tensor) { return tensor.data_ptr(); }
const void* data(const std::optional<Tensor>& tensor) {
  return tensor.has_value() ? tensor->data_ptr() : nullptr;
}

bool is_empty(const Problem& problem) {
  return problem.batch * problem.queries * problem.heads * problem.channels * problem.points == 0;
}

std::vector<int64_t> output_shape(const Problem& problem) {
  return {problem.batch, problem.queries, problem.heads * problem.channels};
}

template <bool Fused, typename Value, typename Real>
void run_forward(const Problem& problem, const Tensor& value, const void* reference,
                 const Tensor& places, const void* mixing, const Tensor& output) {
  const PointLevels<Real> levels(problem, problem.heads * problem.samples());
  const Call<Value, Real> call{problem,
                               levels,
                               static_cast<const Value*>(data(value)),
                               static_cast<const Real*>(data(places)),
                               static_cast<const Real*>(mixing),
                               static_cast<const Real*>(reference),
                               static_cast<Value*>(output.data_ptr()),
                               nullptr,
                               nullptr,
                               nullptr,
                               nullptr};
  const auto worker = choose_worker<Fused, false, Value, Real>();
  parallel_for(0, problem.batch * problem.queries, kGrain,
               [&](int64_t begin, int64_t end) { worker(call, begin, end); });
}

// `places` and `mixing` as in Call. Half precision takes the way through float32: no processor adds
// in it any faster.
template <bool Fused>
Tensor forward(const Problem& problem, const Tensor& value, const std::optional<Tensor>& reference,
               const Tensor& places, const std::optional<Tensor>& mixing) {
  if (is_empty(problem)) return new_zeros(value, output_shape(problem));
  const ScalarType type = value.scalar_type();
  if (type == ScalarType::Half) {
    const Tensor wide = torch::stable::to(value, ScalarType::Float);
    return torch::stable::to(forward<Fused>(problem, wide, reference, places, mixing), type);
  }
  const Tensor output = new_empty(value, output_shape(problem));
  const void *from = data(reference), *with = data(mixing);
  if (type == ScalarType::Double) {
    run_forward<Fused, double, double>(problem, value, from, places, with, output);
  } else if (type == ScalarType::BFloat16) {
    run_forward<Fused, BFloat16, float>(problem, value, from, places, with, output);
  } else {
    run_forward<Fused, float, float>(problem, value, from, places, with, output);
  }
  return output;
}

template <bool Fused, typename Value, typename Real>
void run_backward(const Problem& problem, const Tensor& grad_output, const Tensor& value,
                  const void* reference, const Tensor& places, const void* mixing,
                  const Tensor& grad_value, const Tensor& grad_places, void* grad_mixing) {
  const PointLevels<Real> levels(problem, kQueriesPerBlock * problem.samples());
  const Call<Value, Real> call{problem,
                               levels,
                               static_cast<const Value*>(data(value)),
                               static_cast<const Real*>(data(places)),
                               static_cast<const Real*>(mixing),
                               static_cast<const Real*>(reference),
                               nullptr,
                               static_cast<const Value*>(data(grad_output)),
                               static_cast<Real*>(grad_value.data_ptr()),
                               static_cast<Real*>(grad_places.data_ptr()),
                               static_cast<Real*>(grad_mixing)};
  const auto worker = choose_worker<Fused, true, Value, Real>();
  parallel_for(0, problem.batch * problem.heads, 1,
               [&](int64_t begin, int64_t end) { worker(call, begin, end); });
}

// Gradients of value, places and mixing; the last is meaningless where Fused.
template <bool Fused>
Gradients backward(const Problem& problem, const Tensor& grad_output, const Tensor& value,
                   const std::optional<Tensor>& reference, const Tensor& places,
                   const std::optional<Tensor>& mixing) {
  const ScalarType type = value.scalar_type(), computing = compute_type(value);
  if (type == ScalarType::Half) {
    auto [grad_value, grad_places, grad_mixing] =
        backward<Fused>(problem, torch::stable::to(grad_output, ScalarType::Float),
                        torch::stable::to(value, ScalarType::Float), reference, places, mixing);
    return {torch::stable::to(grad_value, type), grad_places, grad_mixing};
  }
  Tensor grad_value = new_zeros(value, value.sizes(), computing);
  const Tensor grad_places = new_zeros(places, places.sizes());
  const Tensor grad_mixing = Fused ? grad_places : new_zeros(*mixing, mixing->sizes());
  if (!is_empty(problem)) {
    const void *from = data(reference), *with = data(mixing);
    void* to = Fused ? nullptr : grad_mixing.data_ptr();
    if (type == ScalarType::Double) {
      run_backward<Fused, double, double>(problem, grad_output, value, from, places, with,
                                          grad_value, grad_places, to);
    } else if (type == ScalarType::BFloat16) {
      run_backward<Fused, BFloat16, float>(problem, grad_output, value, from, places, with,
                                           grad_value, grad_places, to);
    } else {
      run_backward<Fused, float, float>(problem, grad_output, value, from, places, with, grad_value,
                                        grad_places, to);
    }
  }
  if (type != computing) grad_value = torch::stable::to(grad_value, type);
  return {grad_value, grad_places, grad_mixing};
}

Tensor ms_deform_attn(const Tensor& value, std::vector<int64_t> level_shapes,
                      const Tensor& locations, const Tensor& weights) {
  const Problem problem = check_sampling(value, level_shapes, locations, weights);
  return forward<false>(problem, value, std::nullopt, locations, weights);
}

Gradients ms_deform_attn_backward(const Tensor& grad_output, const Tensor& value,
                                  std::vector<int64_t> level_shapes, const Tensor& locations,
                                  const Tensor& weights) {
  const Problem problem = check_sampling(value, level_shapes, locations, weights);
  check_gradient(grad_output, value, problem);
  return backward<false>(problem, grad_output, value, std::nullopt, locations, weights);
}

Tensor ms_deform_attn_fused(const Tensor& value, std::vector<int64_t> level_shapes,
                            std::optional<Tensor> reference_points, const Tensor& packed) {
  const Problem problem = check_fused(value, level_shapes, reference_points, packed);
  return forward<true>(problem, value, reference_points,
                       torch::stable::to(packed, compute_type(value)), std::nullopt);
}

std::tuple<Tensor, Tensor> ms_deform_attn_fused_backward(const Tensor& grad_output,
                                                         const Tensor& value,
                                                         std::vector<int64_t> level_shapes,
                                                         std::optional<Tensor> reference_points,
                                                         const Tensor& packed) {
  const Problem problem = check_fused(value, level_shapes, reference_points, packed);
  check_gradient(grad_output, value, problem);
  const auto [grad_value, grad_packed, unused] =
      backward<true>(problem, grad_output, value, reference_points,
                     torch::stable::to(packed, compute_type(value)), std::nullopt);
  return {grad_value, torch::stable::to(grad_packed, packed.scalar_type())};
}

}  // namespace
}  // namespace calibnet

STABLE_TORCH_LIBRARY_IMPL(calibnet, CPU, library) {
  library.impl("ms_deform_attn", TORCH_BOX(&calibnet::ms_deform_attn));
  library.impl("ms_deform_attn_backward", TORCH_BOX(&calibnet::ms_deform_attn_backward));
  library.impl("ms_deform_attn_fused", TORCH_BOX(&calibnet::ms_deform_attn_fused));
  library.impl("ms_deform_attn_fused_backward",
               TORCH_BOX(&calibnet::ms_deform_attn_fused_backward));
}

// What Python's loader asks for, without any Python in this library.
extern "C" {

// The number that library.py expects; both change with the schema.
__attribute__((visibility("default"))) int32_t calibnet_ops_revision() { return 1; }

__attribute__((visibility("default"))) const char* calibnet_ops_cpu_isa() {
  return calibnet::isa == calibnet::kAvx512 ? "AVX-512"
         : calibnet::isa == calibnet::kAvx2 ? "AVX2"
                                            : "baseline";
}

// For tests: go back to at most 0 (baseline), 1 (AVX2) or 2 (AVX-512), as far as there is.
__attribute__((visibility("default"))) void calibnet_ops_limit_cpu_isa(int32_t highest) {
  calibnet::isa = static_cast<calibnet::Isa>(
      std::max<int32_t>(0, std::min<int32_t>(calibnet::best_isa(), highest)));
}

}  // extern "C"
