// What the kernels of every device agree on: the sizes of one call and the checks that make its
// memory accesses safe. Messages repeat what ms_deform_attn.py says to users; they are reached only
// by calls past it.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

namespace calibnet {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

struct Level {
  int32_t height;
  int32_t width;
  int32_t start;  // number of the level's first token
};

// value (batch, tokens, heads, channels), sampled by `queries` at `points` per level and head.
struct Problem {
  int64_t batch;
  int64_t tokens;
  int64_t heads;
  int64_t channels;
  int64_t queries;
  int64_t points;
  std::vector<Level> levels;

  int64_t samples() const { return static_cast<int64_t>(levels.size()) * points; }
};

// The type that coordinates, attention weights and sums have.
inline ScalarType compute_type(const Tensor& value) {
  return value.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

inline std::vector<Level> parse_levels(const std::vector<int64_t>& level_shapes, int64_t tokens) {
  STD_TORCH_CHECK(!level_shapes.empty() && level_shapes.size() % 2 == 0,
                  "ms_deform_attn: level_shapes holds ", level_shapes.size(),
                  " numbers; expected height and width of each level");
  STD_TORCH_CHECK(tokens <= std::numeric_limits<int32_t>::max(), "ms_deform_attn: ", tokens,
                  " tokens are more than the 2147483647 that the kernel can number");
  std::vector<Level> levels;
  int64_t start = 0;
  for (size_t i = 0; i < level_shapes.size(); i += 2) {
    const int64_t height = level_shapes[i], width = level_shapes[i + 1];
    // Sides are bounded first, so that the product cannot overflow.
    STD_TORCH_CHECK(height >= 1 && width >= 1 && height <= tokens && width <= tokens &&
                        height * width <= tokens - start,
                    "ms_deform_attn: level ", i / 2, " of ", height, "x", width,
                    " does not fit into value's ", tokens, " tokens");
    levels.push_back(
        {static_cast<int32_t>(height), static_cast<int32_t>(width), static_cast<int32_t>(start)});
    start += height * width;
  }
  STD_TORCH_CHECK(start == tokens, "ms_deform_attn: level_shapes hold ", start,
                  " tokens, value has ", tokens);
  return levels;
}

inline void check_companion(const char* name, const Tensor& tensor, const Tensor& value,
                            std::initializer_list<int64_t> shape) {
  const auto sizes = tensor.sizes();
  bool fits = sizes.size() == shape.size();
  for (size_t axis = 0; fits && axis < shape.size(); ++axis) {
    fits = sizes[axis] == shape.begin()[axis];
  }
  STD_TORCH_CHECK(fits, "ms_deform_attn: the shape of ", name, " does not belong to value's");
  STD_TORCH_CHECK(tensor.device() == value.device(), "ms_deform_attn: ", name,
                  " is on another device than value; move them to one device");
  STD_TORCH_CHECK(tensor.is_contiguous(), "ms_deform_attn: ", name,
                  " is not contiguous; call contiguous() on it first");
}

inline Problem read_value(const Tensor& value, const std::vector<int64_t>& level_shapes) {
  STD_TORCH_CHECK(value.dim() == 4, "ms_deform_attn: value has ", value.dim(),
                  " axes; expected (B, L, M, D)");
  STD_TORCH_CHECK(value.is_contiguous(),
                  "ms_deform_attn: value is not contiguous; call contiguous() on it first");
  const ScalarType type = value.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double ||
                      type == ScalarType::Half || type == ScalarType::BFloat16,
                  "ms_deform_attn: value has no floating type that the kernels know; "
                  "use float32, float64, float16 or bfloat16");
  Problem problem{};
  problem.batch = value.size(0);
  problem.tokens = value.size(1);
  problem.heads = value.size(2);
  problem.channels = value.size(3);
  problem.levels = parse_levels(level_shapes, problem.tokens);
  return problem;
}

// Operands of the drop-in operator: locations (B, Q, M, levels, P, 2), weights (B, Q, M, levels,
// P).
inline Problem check_sampling(const Tensor& value, const std::vector<int64_t>& level_shapes,
                              const Tensor& locations, const Tensor& weights) {
  Problem problem = read_value(value, level_shapes);
  STD_TORCH_CHECK(locations.dim() == 6, "ms_deform_attn: locations has ", locations.dim(),
                  " axes; expected (B, Q, M, levels, P, 2)");
  problem.queries = locations.size(1);
  problem.points = locations.size(4);
  const int64_t levels = static_cast<int64_t>(problem.levels.size());
  check_companion("locations", locations, value,
                  {problem.batch, problem.queries, problem.heads, levels, problem.points, 2});
  check_companion("weights", weights, value,
                  {problem.batch, problem.queries, problem.heads, levels, problem.points});
  STD_TORCH_CHECK(locations.scalar_type() == compute_type(value) &&
                      weights.scalar_type() == compute_type(value),
                  "ms_deform_attn: locations and weights must be float64 beside a float64 value "
                  "and float32 beside every other");
  return problem;
}

// Operands of the fused operator: reference_points (B, Q, 2) or none, packed (B, Q, 3 * M * levels
// * P).
inline Problem check_fused(const Tensor& value, const std::vector<int64_t>& level_shapes,
                           const std::optional<Tensor>& reference_points, const Tensor& packed) {
  Problem problem = read_value(value, level_shapes);
  STD_TORCH_CHECK(packed.dim() == 3, "ms_deform_attn_fused: packed has ", packed.dim(),
                  " axes; expected (B, Q, 3 * M * levels * P)");
  problem.queries = packed.size(1);
  const int64_t per_point = 3 * problem.heads * static_cast<int64_t>(problem.levels.size());
  problem.points = per_point > 0 ? packed.size(2) / per_point : 0;
  check_companion("packed", packed, value,
                  {problem.batch, problem.queries, per_point * problem.points});
  STD_TORCH_CHECK(
      packed.scalar_type() == value.scalar_type() || packed.scalar_type() == compute_type(value),
      "ms_deform_attn_fused: packed must have value's type or the type it computes in");
  if (reference_points.has_value()) {
    check_companion("reference_points", *reference_points, value,
                    {problem.batch, problem.queries, 2});
    STD_TORCH_CHECK(reference_points->scalar_type() == compute_type(value),
                    "ms_deform_attn_fused: reference_points must be float64 beside a float64 value "
                    "and float32 beside every other");
  } else {
    STD_TORCH_CHECK(problem.queries == problem.tokens,
                    "ms_deform_attn_fused: without reference_points every token is a query, but "
                    "there are ",
                    problem.tokens, " tokens and ", problem.queries, " queries");
  }
  return problem;
}

inline void check_gradient(const Tensor& grad_output, const Tensor& value, const Problem& problem) {
  check_companion("grad_output", grad_output, value,
                  {problem.batch, problem.queries, problem.heads * problem.channels});
  STD_TORCH_CHECK(grad_output.scalar_type() == value.scalar_type(),
                  "ms_deform_attn: grad_output must have value's type");
}

}  // namespace calibnet
