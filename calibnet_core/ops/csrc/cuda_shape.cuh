// Which of the GPU kernels a call takes, and how many threads and how much shared memory.
//
// Names nothing of torch or of the CUDA runtime but STD_TORCH_CHECK, which the including file has
// defined: the tests run these choices, and the kernels, on the host.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cuda_kernels.cuh"

namespace calibnet {

inline bool is_aligned(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
}

// Lanes of a pair and threads of a block whose corner tables fit into shared memory.
struct Shape {
  int group, threads, shared_bytes;
};

inline Shape choose_shape(int64_t lanes_wanted, int64_t samples, int64_t entry_bytes) {
  int64_t group = 1, threads = kMaxThreads;
  while (group < lanes_wanted && group < 32) group *= 2;
  // A pair's table: an odd number of entries, as table_pitch says.
  STD_TORCH_CHECK(samples < kMaxSharedBytes / entry_bytes, "ms_deform_attn: ", samples,
                  " points per query and head are more than the kernels hold");
  const int64_t table = (samples | 1) * entry_bytes;
  while (threads > 32 && threads / group * table > kMaxSharedBytes) threads /= 2;
  while (group < 32 && threads / group * table > kMaxSharedBytes) group *= 2;
  return {static_cast<int>(group), static_cast<int>(threads),
          static_cast<int>(threads / group * table)};
}

template <typename Value, typename Real>
using Kernel = void (*)(DeviceCall<Value, Real>);

template <bool Fused, bool Backward, int Levels, int Points, int Group, int Width, typename Value,
          typename Real>
Kernel<Value, Real> kernel_of() {
  if constexpr (Backward) {
    return &backward_kernel<Fused, Levels, Points, Group, Width, Value, Real>;
  } else {
    return &forward_kernel<Fused, Levels, Points, Group, Width, Value, Real>;
  }
}

// The usual sizes have kernels of their own, in which every loop has a known length.
template <bool Fused, bool Backward, typename Value, typename Real>
Kernel<Value, Real> choose_kernel(const DeviceCall<Value, Real>& call, bool vectorised) {
  constexpr int kWidth = 16 / sizeof(Value);
  if (!vectorised) return kernel_of<Fused, Backward, 0, 0, 0, 1, Value, Real>();
  if constexpr (!std::is_same_v<Value, double>) {
    constexpr int kGroup = 32 / kWidth;
    if (call.channels == 32 && call.group == kGroup && call.num_points == 4) {
      if (call.num_levels == 3)
        return kernel_of<Fused, Backward, 3, 4, kGroup, kWidth, Value, Real>();
      if (call.num_levels == 4)
        return kernel_of<Fused, Backward, 4, 4, kGroup, kWidth, Value, Real>();
    }
  }
  return kernel_of<Fused, Backward, 0, 0, 0, kWidth, Value, Real>();
}

}  // namespace calibnet
