// The usual CUDA algorithm of deformable attention, as a yardstick: the benchmark compiles it, and
// nothing else uses it.
//
// Written from a description of what the common implementations do, not from any of them. Forward,
// a thread computes one output channel, so all threads of a (query, head) repeat its index
// arithmetic; level sizes are read from device memory as 64-bit integers, and the output is filled
// with zeros before it is written. Backward, a block of 32 threads owns a (query, head): for every
// point each thread adds to the gradient of the value atomically, and the first thread sums what
// all of them found for the location and the weight.

#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cstdint>
#include <limits>
#include <tuple>

namespace {

using torch::headeronly::ScalarType;
using torch::stable::new_zeros;
using torch::stable::Tensor;

constexpr int kForwardThreads = 1024;
constexpr int kBackwardThreads = 32;  // one for each channel of a head

// Arguments of one call. A pair is one (image, query, head).
template <typename Real>
struct Call {
  const Real* value;            // (batch, tokens, heads, channels)
  const int64_t* level_shapes;  // (levels, 2), height and width
  const int64_t* level_starts;  // (levels), number of a level's first token
  const Real* locations;        // (batch, queries, heads, levels, points, 2), x and y in 0..1
  const Real* weights;          // (batch, queries, heads, levels, points)
  int pairs, tokens, queries, heads, channels, levels, points;
};

// A location among four cells, as one thread sees it. It is less than a cell away from the map.
template <typename Real>
struct Place {
  int top, left, height, width;
  Real down, right;  // distances from the upper left cell's centre, 0 to 1

  __device__ Place(Real x, Real y, int height, int width)
      : top(static_cast<int>(floor(y))),
        left(static_cast<int>(floor(x))),
        height(height),
        width(width),
        down(y - floor(y)),
        right(x - floor(x)) {}

  // Whether the cell `row` below and `column` right of the upper left one is on the map.
  __device__ bool has(int row, int column) const {
    const bool has_row = row == 0 ? top >= 0 : top + 1 < height;
    const bool has_column = column == 0 ? left >= 0 : left + 1 < width;
    return has_row && has_column;
  }

  // Its first element, from the level's first cell.
  __device__ int offset(int row, int column, int pitch) const {
    return ((top + row) * width + left + column) * pitch;
  }

  // One channel of it; 0 outside.
  __device__ Real read(const Real* level, int pitch, int row, int column) const {
    return has(row, column) ? level[offset(row, column, pitch)] : Real(0);
  }

  __device__ void add(Real* level, int pitch, int row, int column, Real number) const {
    if (has(row, column)) atomicAdd(level + offset(row, column, pitch), number);
  }
};

template <typename Real>
__global__ void __launch_bounds__(kForwardThreads)
    forward_kernel(const Call<Real> call, Real* output) {
  const int index = blockIdx.x * kForwardThreads + threadIdx.x;
  if (index >= call.pairs * call.channels) return;
  const int channel = index % call.channels;
  const int pair = index / call.channels;
  const int head = pair % call.heads;
  const int image = pair / call.heads / call.queries;
  const int pitch = call.heads * call.channels;

  int sample = pair * call.levels * call.points;
  Real sum = 0;
  for (int level = 0; level < call.levels; ++level) {
    const int height = static_cast<int>(call.level_shapes[2 * level]);
    const int width = static_cast<int>(call.level_shapes[2 * level + 1]);
    const int64_t token = static_cast<int64_t>(image) * call.tokens + call.level_starts[level];
    const Real* cells = call.value + token * pitch + head * call.channels + channel;
    for (int point = 0; point < call.points; ++point, ++sample) {
      const Real x = call.locations[2 * sample] * width - Real(0.5);
      const Real y = call.locations[2 * sample + 1] * height - Real(0.5);
      const Real weight = call.weights[sample];
      if (x > -1 && y > -1 && x < width && y < height) {
        const Place<Real> place(x, y, height, width);
        const Real up = 1 - place.down, left = 1 - place.right;
        const Real reading = up * left * place.read(cells, pitch, 0, 0) +
                             up * place.right * place.read(cells, pitch, 0, 1) +
                             place.down * left * place.read(cells, pitch, 1, 0) +
                             place.down * place.right * place.read(cells, pitch, 1, 1);
        sum += reading * weight;
      }
    }
  }
  output[index] = sum;
}

template <typename Real>
__global__ void __launch_bounds__(kBackwardThreads)
    backward_kernel(const Call<Real> call, const Real* grad_output, Real* grad_value,
                    Real* grad_locations, Real* grad_weights) {
  // What each thread's channel contributes to the gradients of the weight and of both coordinates.
  __shared__ Real weight_parts[kBackwardThreads];
  __shared__ Real x_parts[kBackwardThreads];
  __shared__ Real y_parts[kBackwardThreads];
  const int channel = threadIdx.x;
  const int pair = blockIdx.x;
  const int head = pair % call.heads;
  const int image = pair / call.heads / call.queries;
  const int pitch = call.heads * call.channels;
  const Real gradient = grad_output[pair * call.channels + channel];

  int sample = pair * call.levels * call.points;
  for (int level = 0; level < call.levels; ++level) {
    const int height = static_cast<int>(call.level_shapes[2 * level]);
    const int width = static_cast<int>(call.level_shapes[2 * level + 1]);
    const int64_t token = static_cast<int64_t>(image) * call.tokens + call.level_starts[level];
    const int64_t cells = token * pitch + head * call.channels + channel;
    for (int point = 0; point < call.points; ++point, ++sample) {
      const Real x = call.locations[2 * sample] * width - Real(0.5);
      const Real y = call.locations[2 * sample + 1] * height - Real(0.5);
      const Real weight = call.weights[sample];
      weight_parts[channel] = 0;
      x_parts[channel] = 0;
      y_parts[channel] = 0;
      if (x > -1 && y > -1 && x < width && y < height) {
        const Place<Real> place(x, y, height, width);
        const Real up = 1 - place.down, left = 1 - place.right;
        const Real weighted = gradient * weight;
        const Real upper_left = place.read(call.value + cells, pitch, 0, 0);
        const Real upper_right = place.read(call.value + cells, pitch, 0, 1);
        const Real lower_left = place.read(call.value + cells, pitch, 1, 0);
        const Real lower_right = place.read(call.value + cells, pitch, 1, 1);
        place.add(grad_value + cells, pitch, 0, 0, up * left * weighted);
        place.add(grad_value + cells, pitch, 0, 1, up * place.right * weighted);
        place.add(grad_value + cells, pitch, 1, 0, place.down * left * weighted);
        place.add(grad_value + cells, pitch, 1, 1, place.down * place.right * weighted);
        const Real upper = left * upper_left + place.right * upper_right;
        const Real lower = left * lower_left + place.right * lower_right;
        weight_parts[channel] = gradient * (up * upper + place.down * lower);
        x_parts[channel] =
            weighted * width *
            (up * (upper_right - upper_left) + place.down * (lower_right - lower_left));
        y_parts[channel] = weighted * height * (lower - upper);
      }
      __syncthreads();
      if (channel == 0) {
        Real of_weight = 0, of_x = 0, of_y = 0;
        for (int i = 0; i < kBackwardThreads; ++i) {
          of_weight += weight_parts[i];
          of_x += x_parts[i];
          of_y += y_parts[i];
        }
        grad_weights[sample] = of_weight;
        grad_locations[2 * sample] = of_x;
        grad_locations[2 * sample + 1] = of_y;
      }
      __syncthreads();
    }
  }
}

// ---- calls from torch --------------------------------------------------------------------------

void check(cudaError_t error) {
  STD_TORCH_CHECK(error == cudaSuccess, "ms_deform_attn_by_channel: ", cudaGetErrorString(error));
}

cudaStream_t current_stream(const Tensor& tensor) {
  check(cudaSetDevice(tensor.get_device_index()));
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(
      aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
  return static_cast<cudaStream_t>(stream);
}

template <typename Real>
Call<Real> read_call(const Tensor& value, const Tensor& level_shapes, const Tensor& level_starts,
                     const Tensor& locations, const Tensor& weights) {
  Call<Real> call{};
  call.value = static_cast<const Real*>(value.data_ptr());
  call.level_shapes = static_cast<const int64_t*>(level_shapes.data_ptr());
  call.level_starts = static_cast<const int64_t*>(level_starts.data_ptr());
  call.locations = static_cast<const Real*>(locations.data_ptr());
  call.weights = static_cast<const Real*>(weights.data_ptr());
  call.pairs = static_cast<int>(locations.size(0) * locations.size(1) * locations.size(2));
  call.tokens = static_cast<int>(value.size(1));
  call.queries = static_cast<int>(locations.size(1));
  call.heads = static_cast<int>(value.size(2));
  call.channels = static_cast<int>(value.size(3));
  call.levels = static_cast<int>(locations.size(3));
  call.points = static_cast<int>(locations.size(4));
  return call;
}

void check_tensors(const Tensor& value, const Tensor& level_shapes, const Tensor& level_starts,
                   const Tensor& locations, const Tensor& weights) {
  const ScalarType type = value.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double,
                  "ms_deform_attn_by_channel: value must be float32 or float64");
  STD_TORCH_CHECK(locations.scalar_type() == type && weights.scalar_type() == type,
                  "ms_deform_attn_by_channel: value, locations and weights must have one type");
  STD_TORCH_CHECK(level_shapes.scalar_type() == ScalarType::Long &&
                      level_starts.scalar_type() == ScalarType::Long,
                  "ms_deform_attn_by_channel: level_shapes and level_starts must be int64");
  STD_TORCH_CHECK(value.dim() == 4 && locations.dim() == 6 && weights.dim() == 5,
                  "ms_deform_attn_by_channel: expected value (B, L, M, D), locations "
                  "(B, Q, M, levels, P, 2) and weights (B, Q, M, levels, P)");
  STD_TORCH_CHECK(locations.numel() > 0 &&
                      locations.numel() <= std::numeric_limits<int32_t>::max() &&
                      locations.size(0) * locations.size(1) * value.size(2) * value.size(3) <=
                          std::numeric_limits<int32_t>::max(),
                  "ms_deform_attn_by_channel: indices are 32 bits wide; split the batch");
}

Tensor forward(const Tensor& value, const Tensor& level_shapes, const Tensor& level_starts,
               const Tensor& locations, const Tensor& weights) {
  check_tensors(value, level_shapes, level_starts, locations, weights);
  const cudaStream_t stream = current_stream(value);
  const Tensor output =
      new_zeros(value, {locations.size(0), locations.size(1), value.size(2) * value.size(3)});
  const unsigned blocks =
      static_cast<unsigned>((output.numel() + kForwardThreads - 1) / kForwardThreads);
  const auto launch = [&](auto zero) {
    using Real = decltype(zero);
    forward_kernel<Real><<<blocks, kForwardThreads, 0, stream>>>(
        read_call<Real>(value, level_shapes, level_starts, locations, weights),
        static_cast<Real*>(output.data_ptr()));
  };
  if (value.scalar_type() == ScalarType::Float) {
    launch(0.0f);
  } else {
    launch(0.0);
  }
  check(cudaGetLastError());
  return output;
}

// Gradients of value, locations and weights.
std::tuple<Tensor, Tensor, Tensor> backward(const Tensor& grad_output, const Tensor& value,
                                            const Tensor& level_shapes, const Tensor& level_starts,
                                            const Tensor& locations, const Tensor& weights) {
  check_tensors(value, level_shapes, level_starts, locations, weights);
  STD_TORCH_CHECK(value.size(3) == kBackwardThreads,
                  "ms_deform_attn_by_channel_backward: heads of ", value.size(3),
                  " channels; the kernel is written for ", kBackwardThreads);
  STD_TORCH_CHECK(grad_output.scalar_type() == value.scalar_type(),
                  "ms_deform_attn_by_channel_backward: grad_output must have value's type");
  const cudaStream_t stream = current_stream(value);
  const Tensor grad_value = new_zeros(value, value.sizes());
  const Tensor grad_locations = new_zeros(locations, locations.sizes());
  const Tensor grad_weights = new_zeros(weights, weights.sizes());
  const auto launch = [&](auto zero) {
    using Real = decltype(zero);
    const auto call = read_call<Real>(value, level_shapes, level_starts, locations, weights);
    backward_kernel<Real><<<call.pairs, kBackwardThreads, 0, stream>>>(
        call, static_cast<const Real*>(grad_output.data_ptr()),
        static_cast<Real*>(grad_value.data_ptr()), static_cast<Real*>(grad_locations.data_ptr()),
        static_cast<Real*>(grad_weights.data_ptr()));
  };
  if (value.scalar_type() == ScalarType::Float) {
    launch(0.0f);
  } else {
    launch(0.0);
  }
  check(cudaGetLastError());
  return {grad_value, grad_locations, grad_weights};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(calibnet_bench, library) {
  library.def(
      "ms_deform_attn_by_channel(Tensor value, Tensor level_shapes, Tensor level_starts, "
      "Tensor locations, Tensor weights) -> Tensor");
  library.def(
      "ms_deform_attn_by_channel_backward(Tensor grad_output, Tensor value, Tensor level_shapes, "
      "Tensor level_starts, Tensor locations, Tensor weights) -> (Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(calibnet_bench, CUDA, library) {
  library.impl("ms_deform_attn_by_channel", TORCH_BOX(&forward));
  library.impl("ms_deform_attn_by_channel_backward", TORCH_BOX(&backward));
}
