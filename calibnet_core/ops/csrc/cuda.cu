// Deformable attention on the GPU: checks, launch and registration.
//
// The library is built without a GPU and loads without one: it links nothing of CUDA but the static
// runtime, which looks for a driver at the first call. torch's current stream comes from a function
// of torch's CUDA library, looked up when first needed, since torch for the CPU does not have it.
// Nothing here reads device memory, so that calls can be captured into a CUDA graph.

#include <cuda_runtime.h>
#include <dlfcn.h>

#include <tuple>

#include "problem.h"
// After what defines STD_TORCH_CHECK.
#include "cuda_shape.cuh"

#if !defined(CALIBNET_CUDA_TARGETS)
#define CALIBNET_CUDA_TARGETS "default"
#endif

namespace calibnet {
namespace {

using torch::stable::new_empty;
using torch::stable::new_zeros;

void check(cudaError_t error, const char* what) {
  STD_TORCH_CHECK(error == cudaSuccess, "ms_deform_attn: ", what, ": ", cudaGetErrorString(error),
                  ". The kernels were built for ", CALIBNET_CUDA_TARGETS,
                  "; set CALIBNET_OPS=eager to do without them");
}

cudaStream_t current_stream(int32_t device) {
  using Getter = AOTITorchError (*)(int32_t, void**);
  static const Getter getter = [] {
    void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
    return reinterpret_cast<Getter>(library ? dlsym(library, "aoti_torch_get_current_cuda_stream")
                                            : nullptr);
  }();
  STD_TORCH_CHECK(getter != nullptr,
                  "ms_deform_attn: this torch has no CUDA library that tells its current stream");
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(getter(device, &stream));
  return static_cast<cudaStream_t>(stream);
}

// Makes a device current for this library's own CUDA runtime.
class DeviceGuard {
 public:
  explicit DeviceGuard(int32_t device) {
    check(cudaGetDevice(&previous_), "no CUDA device");
    if (device != previous_) check(cudaSetDevice(device), "cannot select the device");
    changed_ = device != previous_;
  }
  ~DeviceGuard() {
    if (changed_) cudaSetDevice(previous_);
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int previous_ = 0;
  bool changed_ = false;
};

template <bool Fused, bool Backward, typename Value, typename Real>
void launch(DeviceCall<Value, Real> call, const Problem& problem, int32_t device) {
  constexpr int64_t kWidth = 16 / sizeof(Value);
  const int64_t pairs = problem.batch * problem.queries * problem.heads;
  STD_TORCH_CHECK(pairs <= std::numeric_limits<int32_t>::max(), "ms_deform_attn: ", pairs,
                  " pairs of query and head are too many for one call; split the batch");
  STD_TORCH_CHECK(
      problem.tokens * problem.heads * problem.channels <= std::numeric_limits<int32_t>::max(),
      "ms_deform_attn: one image's values are too many for 32-bit offsets");
  STD_TORCH_CHECK(2 * problem.heads * problem.samples() <= std::numeric_limits<int32_t>::max(),
                  "ms_deform_attn: one query's points are too many for 32-bit offsets");
  STD_TORCH_CHECK(problem.levels.size() <= kMaxLevels, "ms_deform_attn: ", problem.levels.size(),
                  " levels; the CUDA kernels take up to ", kMaxLevels);
  call.tokens = problem.tokens;
  call.pairs = static_cast<int32_t>(pairs);
  call.queries = static_cast<int32_t>(problem.queries);
  call.heads = static_cast<int32_t>(problem.heads);
  call.channels = static_cast<int32_t>(problem.channels);
  call.num_levels = static_cast<int32_t>(problem.levels.size());
  call.num_points = static_cast<int32_t>(problem.points);
  for (size_t i = 0; i < problem.levels.size(); ++i) {
    call.levels[i] = {problem.levels[i].height, problem.levels[i].width, problem.levels[i].start};
  }
  const bool vectorised = problem.channels % kWidth == 0 && is_aligned(call.value) &&
                          is_aligned(Backward ? call.grad_output : call.output) &&
                          is_aligned(call.grad_value);
  const int64_t width = vectorised ? kWidth : 1;
  const Shape shape =
      choose_shape((problem.channels + width - 1) / width, problem.samples(),
                   Backward ? sizeof(BackwardEntry<Real>) : sizeof(ForwardEntry<Real>));
  call.group = shape.group;
  const int64_t pairs_per_block = shape.threads / shape.group;
  const dim3 blocks(static_cast<unsigned>((pairs + pairs_per_block - 1) / pairs_per_block));
  const DeviceGuard guard(device);
  void* arguments[] = {&call};
  check(cudaLaunchKernel(
            reinterpret_cast<const void*>(choose_kernel<Fused, Backward>(call, vectorised)), blocks,
            dim3(shape.threads), arguments, shape.shared_bytes, current_stream(device)),
        "cannot launch the kernel");
}

bool is_empty(const Problem& problem) {
  return problem.batch * problem.queries * problem.heads * problem.channels * problem.points == 0;
}

template <bool Fused, typename Value, typename Real>
void run_forward(const Problem& problem, const Tensor& value,
                 const std::optional<Tensor>& reference, const Tensor& places,
                 const std::optional<Tensor>& mixing, const Tensor& output) {
  DeviceCall<Value, Real> call{};
  call.value = static_cast<const Value*>(value.data_ptr());
  call.places = places.data_ptr();
  call.wide = places.scalar_type() != value.scalar_type();
  if (mixing.has_value()) call.mixing = static_cast<const Real*>(mixing->data_ptr());
  if (reference.has_value()) call.reference = static_cast<const Real*>(reference->data_ptr());
  call.output = static_cast<Value*>(output.data_ptr());
  launch<Fused, false>(call, problem, value.get_device_index());
}

template <bool Fused>
Tensor forward(const Problem& problem, const Tensor& value, const std::optional<Tensor>& reference,
               const Tensor& places, const std::optional<Tensor>& mixing) {
  const std::vector<int64_t> shape = {problem.batch, problem.queries,
                                      problem.heads * problem.channels};
  if (is_empty(problem)) return new_zeros(value, shape);
  const Tensor output = new_empty(value, shape);
  switch (value.scalar_type()) {
    case ScalarType::Float:
      run_forward<Fused, float, float>(problem, value, reference, places, mixing, output);
      break;
    case ScalarType::Half:
      run_forward<Fused, __half, float>(problem, value, reference, places, mixing, output);
      break;
    case ScalarType::BFloat16:
      run_forward<Fused, __nv_bfloat16, float>(problem, value, reference, places, mixing, output);
      break;
    default:
      run_forward<Fused, double, double>(problem, value, reference, places, mixing, output);
  }
  return output;
}

template <bool Fused, typename Value, typename Real>
void run_backward(const Problem& problem, const Tensor& grad_output, const Tensor& value,
                  const std::optional<Tensor>& reference, const Tensor& places,
                  const std::optional<Tensor>& mixing, const Tensor& grad_value,
                  const Tensor& grad_places, const std::optional<Tensor>& grad_mixing) {
  DeviceCall<Value, Real> call{};
  call.value = static_cast<const Value*>(value.data_ptr());
  call.places = places.data_ptr();
  call.wide = places.scalar_type() != value.scalar_type();
  if (mixing.has_value()) call.mixing = static_cast<const Real*>(mixing->data_ptr());
  if (reference.has_value()) call.reference = static_cast<const Real*>(reference->data_ptr());
  call.grad_output = static_cast<const Value*>(grad_output.data_ptr());
  call.grad_value = static_cast<Real*>(grad_value.data_ptr());
  call.grad_places = grad_places.data_ptr();
  if (grad_mixing.has_value()) call.grad_mixing = static_cast<Real*>(grad_mixing->data_ptr());
  launch<Fused, true>(call, problem, value.get_device_index());
}

// Gradients of value and places; that of mixing is written to `grad_mixing`.
template <bool Fused>
std::tuple<Tensor, Tensor> backward(const Problem& problem, const Tensor& grad_output,
                                    const Tensor& value, const std::optional<Tensor>& reference,
                                    const Tensor& places, const std::optional<Tensor>& mixing,
                                    const std::optional<Tensor>& grad_mixing) {
  const ScalarType type = value.scalar_type();
  // Sums of many small numbers: half types would lose most of them.
  Tensor grad_value = new_zeros(value, value.sizes(), compute_type(value));
  const Tensor grad_places = new_zeros(places, places.sizes());
  if (!is_empty(problem)) {
    switch (type) {
      case ScalarType::Float:
        run_backward<Fused, float, float>(problem, grad_output, value, reference, places, mixing,
                                          grad_value, grad_places, grad_mixing);
        break;
      case ScalarType::Half:
        run_backward<Fused, __half, float>(problem, grad_output, value, reference, places, mixing,
                                           grad_value, grad_places, grad_mixing);
        break;
      case ScalarType::BFloat16:
        run_backward<Fused, __nv_bfloat16, float>(problem, grad_output, value, reference, places,
                                                  mixing, grad_value, grad_places, grad_mixing);
        break;
      default:
        run_backward<Fused, double, double>(problem, grad_output, value, reference, places, mixing,
                                            grad_value, grad_places, grad_mixing);
    }
  }
  if (type != compute_type(value)) grad_value = torch::stable::to(grad_value, type);
  return {grad_value, grad_places};
}

Tensor ms_deform_attn(const Tensor& value, std::vector<int64_t> level_shapes,
                      const Tensor& locations, const Tensor& weights) {
  const Problem problem = check_sampling(value, level_shapes, locations, weights);
  return forward<false>(problem, value, std::nullopt, locations, weights);
}

std::tuple<Tensor, Tensor, Tensor> ms_deform_attn_backward(const Tensor& grad_output,
                                                           const Tensor& value,
                                                           std::vector<int64_t> level_shapes,
                                                           const Tensor& locations,
                                                           const Tensor& weights) {
  const Problem problem = check_sampling(value, level_shapes, locations, weights);
  check_gradient(grad_output, value, problem);
  const Tensor grad_weights = new_zeros(weights, weights.sizes());
  const auto [grad_value, grad_locations] =
      backward<false>(problem, grad_output, value, std::nullopt, locations, weights, grad_weights);
  return {grad_value, grad_locations, grad_weights};
}

Tensor ms_deform_attn_fused(const Tensor& value, std::vector<int64_t> level_shapes,
                            std::optional<Tensor> reference_points, const Tensor& packed) {
  const Problem problem = check_fused(value, level_shapes, reference_points, packed);
  return forward<true>(problem, value, reference_points, packed, std::nullopt);
}

std::tuple<Tensor, Tensor> ms_deform_attn_fused_backward(const Tensor& grad_output,
                                                         const Tensor& value,
                                                         std::vector<int64_t> level_shapes,
                                                         std::optional<Tensor> reference_points,
                                                         const Tensor& packed) {
  const Problem problem = check_fused(value, level_shapes, reference_points, packed);
  check_gradient(grad_output, value, problem);
  return backward<true>(problem, grad_output, value, reference_points, packed, std::nullopt,
                        std::nullopt);
}

}  // namespace
}  // namespace calibnet

STABLE_TORCH_LIBRARY_IMPL(calibnet, CUDA, library) {
  library.impl("ms_deform_attn", TORCH_BOX(&calibnet::ms_deform_attn));
  library.impl("ms_deform_attn_backward", TORCH_BOX(&calibnet::ms_deform_attn_backward));
  library.impl("ms_deform_attn_fused", TORCH_BOX(&calibnet::ms_deform_attn_fused));
  library.impl("ms_deform_attn_fused_backward",
               TORCH_BOX(&calibnet::ms_deform_attn_fused_backward));
}

extern "C" __attribute__((visibility("default"))) const char* calibnet_ops_cuda_targets() {
  return CALIBNET_CUDA_TARGETS;
}
