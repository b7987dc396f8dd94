// Deformable attention on the GPU: device code only, launched by cuda.cu.
//
// A pair is one (image, query, head). A group of lanes of one warp owns a pair: together they
// compute the corner table of the pair's points once into shared memory, then each lane reads its
// own 16 bytes of every corner row. Groups are powers of two inside a warp, so no block barrier is
// needed.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "bilinear.h"

#if !defined(CALIBNET_SHARED)  // a host that runs these kernels for a test brings its own
#define CALIBNET_SHARED(Type, name)       \
  extern __shared__ uint4 name##_bytes[]; \
  Type* name = reinterpret_cast<Type*>(name##_bytes)
#endif

namespace calibnet {

constexpr int kMaxLevels = 64;  // more than any image pyramid has; they travel as an argument
constexpr int kMaxThreads = 256;
constexpr int kMaxSharedBytes = 48 * 1024;  // of a block, without opting in to more

struct DeviceLevel {
  int32_t height, width, start;
};

// One call. Drop-in: `places` are normalised locations, `mixing` attention weights. Fused: both lie
// in `places`, a query's offsets in cells before its logits, and `reference` is null where every
// token is a query. `wide` says that `places` holds Real beside a half-precision Value.
template <typename Value, typename Real>
struct DeviceCall {
  const Value* value;
  const void* places;
  const Real* mixing;
  const Real* reference;
  Value* output;             // forward
  const Value* grad_output;  // backward, as is all below
  Real* grad_value;
  void* grad_places;
  Real* grad_mixing;
  int64_t tokens;
  int32_t pairs, queries, heads, channels;
  int32_t num_levels, num_points;  // points of each level
  int32_t group;                   // lanes of a pair
  bool wide;
  DeviceLevel levels[kMaxLevels];
};

// An entry of the corner table.
template <typename Real>
struct alignas(16) ForwardEntry {
  Real share[4];   // upper left, upper right, lower left, lower right; times the attention weight
  int32_t row[4];  // elements from the head's first channel of token 0
};

template <typename Real>
struct alignas(16) BackwardEntry {
  Real first;   // column's fraction, then the weight's gradient
  Real second;  // row's fraction, then the gradient along x
  Real third;   // inside bits, then the gradient along y
  Real weight;  // attention weight
  int32_t row[4];
};

// ---- numbers -----------------------------------------------------------------------------------

__device__ __forceinline__ float to_real(float number) { return number; }
__device__ __forceinline__ double to_real(double number) { return number; }
__device__ __forceinline__ float to_real(__half number) { return __half2float(number); }
__device__ __forceinline__ float to_real(__nv_bfloat16 number) { return __bfloat162float(number); }

__device__ __forceinline__ void assign(float& to, float number) { to = number; }
__device__ __forceinline__ void assign(double& to, double number) { to = number; }
__device__ __forceinline__ void assign(__half& to, float number) { to = __float2half_rn(number); }
__device__ __forceinline__ void assign(__nv_bfloat16& to, float number) {
  to = __float2bfloat16_rn(number);
}

__device__ __forceinline__ float exponential(float number) { return expf(number); }
__device__ __forceinline__ double exponential(double number) { return exp(number); }

// `Width` channels as one transaction where they fill 16 bytes.
template <int Width, typename Value, typename Real>
__device__ __forceinline__ void load(const Value* from, Real (&to)[Width]) {
  if constexpr (Width * sizeof(Value) == 16) {
    union {
      uint4 bytes;
      Value numbers[Width];
    } pack = {__ldg(reinterpret_cast<const uint4*>(from))};
#pragma unroll
    for (int i = 0; i < Width; ++i) to[i] = to_real(pack.numbers[i]);
  } else {
#pragma unroll
    for (int i = 0; i < Width; ++i) to[i] = to_real(from[i]);
  }
}

template <int Width, typename Value, typename Real>
__device__ __forceinline__ void store(Value* to, const Real (&from)[Width]) {
  if constexpr (Width * sizeof(Value) == 16) {
    union {
      uint4 bytes;
      Value numbers[Width];
    } pack;
#pragma unroll
    for (int i = 0; i < Width; ++i) assign(pack.numbers[i], from[i]);
    *reinterpret_cast<uint4*>(to) = pack.bytes;
  } else {
#pragma unroll
    for (int i = 0; i < Width; ++i) assign(to[i], from[i]);
  }
}

// Add `factor` times `from`; four floats at once where the device has an instruction for it.
template <int Width, typename Real>
__device__ __forceinline__ void add_atomically(Real* to, Real factor, const Real (&from)[Width]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  constexpr bool kByFours = std::is_same_v<Real, float> && Width % 4 == 0;
#else
  constexpr bool kByFours = false;
#endif
  if constexpr (kByFours) {
#pragma unroll
    for (int i = 0; i < Width; i += 4) {
      atomicAdd(reinterpret_cast<float4*>(to + i),
                make_float4(factor * from[i], factor * from[i + 1], factor * from[i + 2],
                            factor * from[i + 3]));
    }
  } else {
#pragma unroll
    for (int i = 0; i < Width; ++i) atomicAdd(to + i, factor * from[i]);
  }
}

template <typename Value, typename Real>
__device__ __forceinline__ Real read_packed(const DeviceCall<Value, Real>& call, int64_t index) {
  if constexpr (std::is_same_v<Value, Real>) {
    return static_cast<const Real*>(call.places)[index];
  } else {
    return call.wide ? static_cast<const Real*>(call.places)[index]
                     : to_real(static_cast<const Value*>(call.places)[index]);
  }
}

template <typename Value, typename Real>
__device__ __forceinline__ void write_packed(const DeviceCall<Value, Real>& call, int64_t index,
                                             Real number) {
  if constexpr (std::is_same_v<Value, Real>) {
    static_cast<Real*>(call.grad_places)[index] = number;
  } else if (call.wide) {
    static_cast<Real*>(call.grad_places)[index] = number;
  } else {
    assign(static_cast<Value*>(call.grad_places)[index], number);
  }
}

// The largest and the sum over the lanes of a group; every lane gets it.
template <typename Real>
__device__ __forceinline__ Real largest_of_group(Real number, int group) {
  for (int distance = group / 2; distance > 0; distance /= 2) {
    const Real other = __shfl_xor_sync(0xffffffffu, number, distance);
    number = other > number ? other : number;
  }
  return number;
}

template <typename Real>
__device__ __forceinline__ Real sum_of_group(Real number, int group) {
#pragma unroll
  for (int distance = group / 2; distance > 0; distance /= 2) {
    number += __shfl_xor_sync(0xffffffffu, number, distance);
  }
  return number;
}

// ---- what one pair samples ---------------------------------------------------------------------

// Levels, Points and Group are 0 where they are known only at run time.
template <bool Fused, int Levels, int Points, int Group, typename Value, typename Real>
struct Pair {
  const DeviceCall<Value, Real>& call;
  int group, lane, slot;  // slot: number of the group in its block
  bool active;  // false for the groups past the last pair; they run along and write nothing
  int index;    // of the pair
  int samples, points;
  Real reference_x, reference_y;
  Real largest, factor;  // of the softmax

  __device__ __forceinline__ explicit Pair(const DeviceCall<Value, Real>& call) : call(call) {
    group = Group > 0 ? Group : call.group;
    points = Points > 0 ? Points : call.num_points;
    samples = Points > 0 ? Levels * Points : call.num_levels * call.num_points;
    lane = threadIdx.x & (group - 1);
    slot = threadIdx.x / group;
    const int64_t wanted = static_cast<int64_t>(blockIdx.x) * (blockDim.x / group) + slot;
    active = wanted < call.pairs;
    index = active ? static_cast<int>(wanted) : call.pairs - 1;
    if constexpr (Fused) {
      find_reference();
      normalise_logits();
    }
  }

  __device__ __forceinline__ int row() const { return index / call.heads; }  // image and query
  __device__ __forceinline__ int head() const { return index % call.heads; }

  // The channels of this pair's head at token 0 of its image.
  __device__ __forceinline__ int64_t base() const {
    const int64_t image = row() / call.queries;
    return (image * call.tokens * call.heads + head()) * call.channels;
  }

  __device__ __forceinline__ int64_t offsets_at() const {
    return static_cast<int64_t>(row()) * 3 * call.heads * samples + head() * 2 * samples;
  }
  __device__ __forceinline__ int64_t logits_at() const {
    return (static_cast<int64_t>(row()) * 3 + 2) * call.heads * samples + head() * samples;
  }

  __device__ __forceinline__ void find_reference() {
    if (call.reference != nullptr) {
      const Real* point = call.reference + static_cast<int64_t>(row()) * 2;
      reference_x = point[0];
      reference_y = point[1];
      return;
    }
    const int query = row() % call.queries;
    int level = (Levels > 0 ? Levels : call.num_levels) - 1;
    while (call.levels[level].start > query) --level;
    const DeviceLevel own = call.levels[level];
    const int cell = query - own.start;
    reference_x = (static_cast<Real>(cell % own.width) + Real(0.5)) / static_cast<Real>(own.width);
    reference_y = (static_cast<Real>(cell / own.width) + Real(0.5)) / static_cast<Real>(own.height);
  }

  __device__ __forceinline__ void normalise_logits() {
    const int64_t logits = logits_at();
    largest = read_packed(call, logits);
    for (int i = lane; i < samples; i += group) {
      const Real logit = read_packed(call, logits + i);
      largest = logit > largest ? logit : largest;
    }
    largest = largest_of_group(largest, group);
    Real total = 0;
    for (int i = lane; i < samples; i += group) {
      total += exponential(read_packed(call, logits + i) - largest);
    }
    factor = Real(1) / sum_of_group(total, group);
  }

  // Level, lines and attention weight of point `i`.
  __device__ __forceinline__ DeviceLevel sample(int i, Lines<Real>& column, Lines<Real>& row_lines,
                                                Real& weight) const {
    const DeviceLevel level = call.levels[i / points];
    const Real width = static_cast<Real>(level.width), height = static_cast<Real>(level.height);
    Real x, y;
    if constexpr (Fused) {
      const int64_t offset = offsets_at() + 2 * i;
      x = reference_x * width - Real(0.5) + read_packed(call, offset);
      y = reference_y * height - Real(0.5) + read_packed(call, offset + 1);
      weight = exponential(read_packed(call, logits_at() + i) - largest) * factor;
    } else {
      const int64_t place = static_cast<int64_t>(index) * samples + i;
      const Real* locations = static_cast<const Real*>(call.places) + 2 * place;
      x = locations[0] * width - Real(0.5);
      y = locations[1] * height - Real(0.5);
      weight = call.mixing[place];
    }
    column = lines_around(x, level.width);
    row_lines = lines_around(y, level.height);
    return level;
  }

  __device__ __forceinline__ void find_rows(const DeviceLevel& level, const Lines<Real>& column,
                                            const Lines<Real>& row_lines,
                                            int32_t (&rows)[4]) const {
    const int32_t pitch = call.heads * call.channels;
    const int32_t upper = level.start + row_lines.lower * level.width;
    const int32_t lower = level.start + row_lines.upper * level.width;
    rows[0] = (upper + column.lower) * pitch;
    rows[1] = (upper + column.upper) * pitch;
    rows[2] = (lower + column.lower) * pitch;
    rows[3] = (lower + column.upper) * pitch;
  }
};

// Entries of a pair lie an odd number apart, which spreads the pairs of a warp over the banks.
__host__ __device__ inline int table_pitch(int samples) { return samples | 1; }

// ---- kernels -----------------------------------------------------------------------------------

// One block per processor at least, the second launch bound, lets the compiler take registers
// rather than spill them.

template <bool Fused, int Levels, int Points, int Group, int Width, typename Value, typename Real>
__global__ void __launch_bounds__(kMaxThreads, 1)
    forward_kernel(const __grid_constant__ DeviceCall<Value, Real> call) {
  CALIBNET_SHARED(ForwardEntry<Real>, entries);
  const Pair<Fused, Levels, Points, Group, Value, Real> pair(call);
  ForwardEntry<Real>* table = entries + pair.slot * table_pitch(pair.samples);
  for (int i = pair.lane; i < pair.samples; i += pair.group) {
    Lines<Real> column, row;
    Real weight;
    const DeviceLevel level = pair.sample(i, column, row, weight);
    ForwardEntry<Real> entry;
    entry.share[0] = row.lower_share * column.lower_share * weight;
    entry.share[1] = row.lower_share * column.upper_share * weight;
    entry.share[2] = row.upper_share * column.lower_share * weight;
    entry.share[3] = row.upper_share * column.upper_share * weight;
    pair.find_rows(level, column, row, entry.row);
    table[i] = entry;
  }
  __syncwarp();

  const Value* base = call.value + pair.base();
  for (int channel = pair.lane * Width; channel < call.channels; channel += pair.group * Width) {
    Real sums[Width] = {};
#pragma unroll 2  // 8 rows in flight; more would cost the registers of other warps
    for (int i = 0; i < pair.samples; ++i) {
      const ForwardEntry<Real> entry = table[i];
#pragma unroll
      for (int corner = 0; corner < 4; ++corner) {
        Real numbers[Width];
        load(base + entry.row[corner] + channel, numbers);
#pragma unroll
        for (int j = 0; j < Width; ++j) sums[j] += entry.share[corner] * numbers[j];
      }
    }
    if (pair.active)
      store(call.output + static_cast<int64_t>(pair.index) * call.channels + channel, sums);
  }
}

template <bool Fused, int Levels, int Points, int Group, int Width, typename Value, typename Real>
__global__ void __launch_bounds__(kMaxThreads, 1)
    backward_kernel(const __grid_constant__ DeviceCall<Value, Real> call) {
  CALIBNET_SHARED(BackwardEntry<Real>, entries);
  const Pair<Fused, Levels, Points, Group, Value, Real> pair(call);
  BackwardEntry<Real>* table = entries + pair.slot * table_pitch(pair.samples);
  for (int i = pair.lane; i < pair.samples; i += pair.group) {
    Lines<Real> column, row;
    Real weight;
    const DeviceLevel level = pair.sample(i, column, row, weight);
    BackwardEntry<Real> entry;
    entry.first = column.fraction;
    entry.second = row.fraction;
    entry.third =
        column.lower_inside + 2 * column.upper_inside + 4 * row.lower_inside + 8 * row.upper_inside;
    entry.weight = weight;
    pair.find_rows(level, column, row, entry.row);
    table[i] = entry;
  }
  __syncwarp();

  const int64_t base = pair.base();
  const int64_t upstream = static_cast<int64_t>(pair.index) * call.channels;
  for (int i = 0; i < pair.samples; ++i) {
    const BackwardEntry<Real> entry = table[i];
    const int inside = static_cast<int>(entry.third);
    const Real left = inside & 1 ? Real(1) : Real(0), right = inside & 2 ? Real(1) : Real(0);
    const Real top = inside & 4 ? Real(1) : Real(0), bottom = inside & 8 ? Real(1) : Real(0);
    const Real column_lower = (Real(1) - entry.first) * left, column_upper = entry.first * right;
    const Real row_lower = (Real(1) - entry.second) * top, row_upper = entry.second * bottom;
    const Real shares[4] = {row_lower * column_lower, row_lower * column_upper,
                            row_upper * column_lower, row_upper * column_upper};
    Real products[4] = {};  // of the upstream gradient with each corner's row, this lane's part
    for (int channel = pair.lane * Width; channel < call.channels; channel += pair.group * Width) {
      Real gradient[Width];
      load(call.grad_output + upstream + channel, gradient);
#pragma unroll
      for (int corner = 0; corner < 4; ++corner) {
        const int64_t at = base + entry.row[corner] + channel;
        Real numbers[Width];
        load(call.value + at, numbers);
#pragma unroll
        for (int j = 0; j < Width; ++j) products[corner] += gradient[j] * numbers[j];
        // The whole group takes the same way: shares are the pair's.
        if (pair.active && shares[corner] != Real(0)) {
          add_atomically(call.grad_value + at, shares[corner] * entry.weight, gradient);
        }
      }
    }
    // A share falls by 1 per pixel at the lower line and rises by 1 at the upper one, where that
    // line exists.
    const Real upper = column_lower * products[0] + column_upper * products[1];
    const Real lower = column_lower * products[2] + column_upper * products[3];
    const Real along_x = row_lower * (right * products[1] - left * products[0]) +
                         row_upper * (right * products[3] - left * products[2]);
    const Real grad_weight = sum_of_group(row_lower * upper + row_upper * lower, pair.group);
    const Real grad_x = sum_of_group(entry.weight * along_x, pair.group);
    const Real grad_y = sum_of_group(entry.weight * (bottom * lower - top * upper), pair.group);
    __syncwarp();  // every lane has read the entry
    if (pair.lane == 0) {
      table[i].first = grad_weight;
      table[i].second = grad_x;
      table[i].third = grad_y;
    }
  }
  __syncwarp();

  Real mean = 0;
  if constexpr (Fused) {
    for (int i = pair.lane; i < pair.samples; i += pair.group)
      mean += table[i].weight * table[i].first;
    mean = sum_of_group(mean, pair.group);
  }
  if (!pair.active) return;
  for (int i = pair.lane; i < pair.samples; i += pair.group) {
    const BackwardEntry<Real> entry = table[i];
    if constexpr (Fused) {
      const int64_t offset = pair.offsets_at() + 2 * i;
      write_packed(call, offset, entry.second);
      write_packed(call, offset + 1, entry.third);
      write_packed(call, pair.logits_at() + i, entry.weight * (entry.first - mean));
    } else {
      const DeviceLevel level = call.levels[i / pair.points];
      const int64_t place = static_cast<int64_t>(pair.index) * pair.samples + i;
      Real* grad_locations = static_cast<Real*>(call.grad_places) + 2 * place;
      grad_locations[0] = entry.second * static_cast<Real>(level.width);
      grad_locations[1] = entry.third * static_cast<Real>(level.height);
      call.grad_mixing[place] = entry.first;
    }
  }
}

}  // namespace calibnet
