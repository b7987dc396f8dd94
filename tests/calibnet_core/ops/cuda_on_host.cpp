// The device code of the GPU kernels, executed on the host by the emulation in cuda_on_host.h.
//
// Built as a library, it runs one launch for the tests beside it. Built with CALIBNET_HOST_MAIN and
// a sanitizer, it is a program that runs hard cases on buffers of exactly the size that a call has.
#include "cuda_on_host.h"

// The architecture whose way of adding atomically the kernels take. Defined after CUDA's headers,
// for which this remains a host.
#if defined(CALIBNET_HOST_ARCH)
#define __CUDA_ARCH__ CALIBNET_HOST_ARCH
#endif
#include <cstdio>
#include <limits>
#include <sstream>

namespace cuda_on_host {

template <typename... Parts>
std::string joined(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

}  // namespace cuda_on_host

#define STD_TORCH_CHECK(condition, ...) \
  if (!(condition)) throw std::runtime_error(cuda_on_host::joined(__VA_ARGS__))
#include "cuda_shape.cuh"

namespace cuda_on_host {

enum Type : int32_t { kFloat, kHalf, kBFloat16, kDouble };

// One launch; the test's ctypes structure of the same name repeats it.
struct Arguments {
  const void *value, *places, *mixing, *reference;
  void* output;
  const void* grad_output;
  void *grad_value, *grad_places, *grad_mixing;
  const int32_t* level_shapes;  // height and width of each
  int64_t batch, tokens, heads, channels, queries, points, num_levels;
  uint64_t seed;
  int32_t type, fused, backward, wide;
};

struct Report {
  int32_t group, threads, shared_bytes, blocks, width, specialised;
  char message[512];
};

// What cuda.cu's `launch` does, with the emulation in the driver's place.
template <bool Fused, bool Backward, typename Value, typename Real>
void launch(const Arguments& from, Report& report) {
  using calibnet::is_aligned;
  calibnet::DeviceCall<Value, Real> call{};
  call.value = static_cast<const Value*>(from.value);
  call.places = from.places;
  call.mixing = static_cast<const Real*>(from.mixing);
  call.reference = static_cast<const Real*>(from.reference);
  call.output = static_cast<Value*>(from.output);
  call.grad_output = static_cast<const Value*>(from.grad_output);
  call.grad_value = static_cast<Real*>(from.grad_value);
  call.grad_places = from.grad_places;
  call.grad_mixing = static_cast<Real*>(from.grad_mixing);
  call.wide = from.wide != 0;
  constexpr int64_t kWidth = 16 / sizeof(Value);
  const int64_t pairs = from.batch * from.queries * from.heads;
  call.tokens = from.tokens;
  call.pairs = static_cast<int32_t>(pairs);
  call.queries = static_cast<int32_t>(from.queries);
  call.heads = static_cast<int32_t>(from.heads);
  call.channels = static_cast<int32_t>(from.channels);
  call.num_levels = static_cast<int32_t>(from.num_levels);
  call.num_points = static_cast<int32_t>(from.points);
  // A level that the call does not have is far away, so that using it shows.
  constexpr int32_t kFar = 1 << 20;
  for (calibnet::DeviceLevel& level : call.levels) level = {kFar, kFar, kFar};
  int32_t start = 0;
  for (int64_t i = 0; i < from.num_levels; ++i) {
    const int32_t height = from.level_shapes[2 * i], width = from.level_shapes[2 * i + 1];
    call.levels[i] = {height, width, start};
    start += height * width;
  }
  const bool vectorised = from.channels % kWidth == 0 && is_aligned(call.value) &&
                          is_aligned(Backward ? call.grad_output : call.output) &&
                          is_aligned(call.grad_value);
  const int64_t width = vectorised ? kWidth : 1;
  const calibnet::Shape shape = calibnet::choose_shape(
      (from.channels + width - 1) / width, from.num_levels * from.points,
      Backward ? sizeof(calibnet::BackwardEntry<Real>) : sizeof(calibnet::ForwardEntry<Real>));
  call.group = shape.group;
  const int64_t pairs_per_block = shape.threads / shape.group;
  const auto blocks = static_cast<unsigned>((pairs + pairs_per_block - 1) / pairs_per_block);
  const auto kernel = calibnet::choose_kernel<Fused, Backward>(call, vectorised);

  constexpr int kVector = static_cast<int>(kWidth);
  const bool generic =
      kernel == calibnet::kernel_of<Fused, Backward, 0, 0, 0, 1, Value, Real>() ||
      kernel == calibnet::kernel_of<Fused, Backward, 0, 0, 0, kVector, Value, Real>();
  report.group = shape.group;
  report.threads = shape.threads;
  report.shared_bytes = shape.shared_bytes;
  report.blocks = static_cast<int32_t>(blocks);
  report.width = static_cast<int32_t>(width);
  report.specialised = !generic;

  Grid grid(blocks, static_cast<unsigned>(shape.threads), static_cast<size_t>(shape.shared_bytes),
            from.seed);
  grid.run([kernel, &call] { kernel(call); });
}

template <bool Fused, bool Backward>
void launch_of_type(const Arguments& from, Report& report) {
  switch (from.type) {
    case kFloat:
      return launch<Fused, Backward, float, float>(from, report);
    case kHalf:
      return launch<Fused, Backward, __half, float>(from, report);
#if !defined(CALIBNET_HOST_MAIN)  // which is slow to build; only the conversion of numbers differs
    case kBFloat16:
      return launch<Fused, Backward, __nv_bfloat16, float>(from, report);
#endif
    default:
      return launch<Fused, Backward, double, double>(from, report);
  }
}

// ---- kernels that are wrong, to see that it shows -----------------------------------------------

void without_barrier() {
  CALIBNET_SHARED(float, numbers);
  numbers[threadIdx.x] = 1.0f;
  numbers[threadIdx.x] += numbers[threadIdx.x ^ 1u];
}

void misaligned() {
  alignas(16) static const float numbers[8] = {};
  __ldg(reinterpret_cast<const uint4*>(numbers + 1));
}

void lanes_elsewhere() {
  if (threadIdx.x % 2 == 0) __syncwarp();
  __shfl_xor_sync(0xffffffffu, 1.0f, 1);
}

void lanes_gone() {
  if (threadIdx.x == 7) return;
  __syncwarp();
}

void run_wrong_kernel(const std::string& name) {
  constexpr size_t kSharedBytes = kWarpSize * sizeof(float);
  if (name == "without_barrier") return Grid(1, kWarpSize, kSharedBytes, 1).run(without_barrier);
  if (name == "misaligned") return Grid(1, kWarpSize, kSharedBytes, 1).run(misaligned);
  if (name == "lanes_elsewhere") return Grid(1, kWarpSize, kSharedBytes, 1).run(lanes_elsewhere);
  if (name == "lanes_gone") return Grid(1, kWarpSize, kSharedBytes, 1).run(lanes_gone);
  throw std::runtime_error("unknown kernel " + name);
}

int reporting(Report* report, const std::function<void()>& work) {
  *report = {};
  try {
    work();
  } catch (const std::exception& error) {
    std::snprintf(report->message, sizeof(report->message), "%s", error.what());
    return 1;
  }
  return 0;
}

}  // namespace cuda_on_host

extern "C" {

// Both return 0, or 1 with a message where the emulation found something wrong.

int calibnet_launch_on_host(const cuda_on_host::Arguments* arguments,
                            cuda_on_host::Report* report) {
  using namespace cuda_on_host;
  constexpr void (*kLaunch[2][2])(const Arguments&, Report&) = {
      {launch_of_type<false, false>, launch_of_type<false, true>},
      {launch_of_type<true, false>, launch_of_type<true, true>}};
  return reporting(report, [&] {
    kLaunch[arguments->fused != 0][arguments->backward != 0](*arguments, *report);
  });
}

int calibnet_run_wrong_kernel(const char* name, cuda_on_host::Report* report) {
  return cuda_on_host::reporting(report, [&] { cuda_on_host::run_wrong_kernel(name); });
}

}  // extern "C"

#if defined(CALIBNET_HOST_MAIN)

namespace cuda_on_host {

constexpr size_t kNumBuffers = 9;
constexpr const char* kBuffers[kNumBuffers] = {"value",      "places",      "mixing",
                                               "reference",  "output",      "grad_output",
                                               "grad_value", "grad_places", "grad_mixing"};

struct Case {
  Type type;
  bool fused, wide, has_reference;
  int64_t batch, heads, channels, queries, points;  // queries: 0 for every token
  std::vector<int32_t> level_shapes;
};

double random_number(std::mt19937_64& random) {
  return std::uniform_real_distribution<double>(-0.4, 1.4)(random);
}

// Locations and offsets: beyond all borders, at them, and no numbers at all.
double random_place(std::mt19937_64& random) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  constexpr double kNasty[] = {0.0,       1.0,        -1.0, 0.5,  -0.5,       1e30,
                               kInfinity, -kInfinity, NAN,  -1e9, 4294967296, 65504.0};
  const size_t chosen = random() % (2 * std::size(kNasty));
  return chosen < std::size(kNasty) ? kNasty[chosen] : 8.0 * random_number(random) - 4.0;
}

// Heap memory of exactly `count` numbers, which a sanitizer surrounds with forbidden ground.
class Buffer {
 public:
  Buffer(Type type, int64_t count, const std::function<double()>& next) : type_(type) {
    const size_t each = type == kDouble ? 8 : type == kFloat ? 4 : 2;
    memory_.reset(static_cast<char*>(operator new(each* static_cast<size_t>(count))));
    for (int64_t i = 0; i < count; ++i) {
      if (type == kDouble) at<double>(i) = next();
      if (type == kFloat) at<float>(i) = static_cast<float>(next());
      if (type == kHalf) at<__half>(i) = __float2half_rn(static_cast<float>(next()));
    }
    count_ = count;
  }
  void* data() { return memory_.get(); }
  void require_finite(const char* name) {
    for (int64_t i = 0; i < count_; ++i) {
      const double number = type_ == kDouble  ? at<double>(i)
                            : type_ == kFloat ? at<float>(i)
                                              : __half2float(at<__half>(i));
      STD_TORCH_CHECK(std::isfinite(number), name, " holds ", number, " at ", i);
    }
  }

 private:
  struct Free {
    void operator()(char* memory) const { operator delete(memory); }
  };
  template <typename Number>
  Number& at(int64_t i) {
    return reinterpret_cast<Number*>(memory_.get())[i];
  }

  Type type_;
  int64_t count_;
  std::unique_ptr<char, Free> memory_;
};

// Forward and backward; the buffer named `shortened` lacks its last number.
void run(const Case& input, uint64_t seed, const std::string& shortened) {
  std::mt19937_64 random(seed);
  Arguments call{};
  call.level_shapes = input.level_shapes.data();
  call.num_levels = static_cast<int64_t>(input.level_shapes.size()) / 2;
  for (int64_t i = 0; i < call.num_levels; ++i) {
    call.tokens += input.level_shapes[2 * i] * input.level_shapes[2 * i + 1];
  }
  call.batch = input.batch;
  call.heads = input.heads;
  call.channels = input.channels;
  call.queries = input.queries > 0 ? input.queries : call.tokens;
  call.points = input.points;
  call.type = input.type;
  call.fused = input.fused;
  call.wide = input.wide;
  call.seed = seed;
  const Type real = input.type == kDouble ? kDouble : kFloat;
  const int64_t rows = call.batch * call.queries;
  const int64_t samples = rows * call.heads * call.num_levels * call.points;
  const int64_t sizes[kNumBuffers] = {call.batch * call.tokens * call.heads * call.channels,
                                      (input.fused ? 3 : 2) * samples,
                                      samples,
                                      2 * rows,
                                      rows * call.heads * call.channels,
                                      rows * call.heads * call.channels,
                                      call.batch * call.tokens * call.heads * call.channels,
                                      (input.fused ? 3 : 2) * samples,
                                      samples};
  const Type places = input.fused && !input.wide ? input.type : real;
  const Type types[kNumBuffers] = {input.type, places, real,   real, input.type,
                                   input.type, real,   places, real};
  const int64_t per_row = call.heads * call.num_levels * call.points;
  std::vector<Buffer> buffers;
  for (size_t i = 0; i < kNumBuffers; ++i) {
    int64_t made = 0;
    buffers.emplace_back(types[i], sizes[i] - (shortened == kBuffers[i]), [&]() -> double {
      // Logits are numbers: the softmax of others is no number anywhere.
      const bool place = i == 1 && (!input.fused || made++ % (3 * per_row) < 2 * per_row);
      if (place) return random_place(random);
      if (i == 6) return 0.0;
      return i == 4 || i > 6 ? NAN : random_number(random);
    });
  }
  call.value = buffers[0].data();
  call.places = buffers[1].data();
  call.mixing = input.fused ? nullptr : buffers[2].data();
  call.reference = input.has_reference ? buffers[3].data() : nullptr;
  Report report;
  call.output = buffers[4].data();
  STD_TORCH_CHECK(calibnet_launch_on_host(&call, &report) == 0, report.message);
  call.output = nullptr;
  call.backward = 1;
  call.grad_output = buffers[5].data();
  call.grad_value = buffers[6].data();
  call.grad_places = buffers[7].data();
  call.grad_mixing = input.fused ? nullptr : buffers[8].data();
  STD_TORCH_CHECK(calibnet_launch_on_host(&call, &report) == 0, report.message);
  for (size_t i : {4, 6, 7, 8}) {
    if (i != 8 || !input.fused) buffers[i].require_finite(kBuffers[i]);
  }
}

// Every `stride`-th case of all.
void run_cases(uint64_t stride) {
  uint64_t number = 0;
  for (Type type : {kFloat, kHalf, kDouble}) {
    for (int operands = 0; operands < 4; ++operands) {
      // Drop-in; fused with reference points; the same, wide; fused with every token a query.
      const bool fused = operands > 0, wide = operands == 2, has_reference = fused && operands < 3;
      const int64_t queries = operands == 3 ? 0 : 3;
      const auto run_levels = [&](int64_t channels, int64_t points, std::vector<int32_t> shapes) {
        if (++number % stride != 0) return;
        const int64_t batch = 1 + static_cast<int64_t>(number % 2);
        run({type, fused, wide, has_reference, batch, 2, channels, queries, points, shapes}, number,
            "");
      };
      run_levels(7, 3, {1, 1});
      run_levels(16, 5, {3, 5, 1, 2});
      run_levels(32, 4, {4, 3, 2, 2, 1, 1});
      run_levels(40, 4, {4, 3, 2, 2, 1, 1});
      run_levels(32, 4, {3, 3, 2, 5, 1, 2, 2, 1});
      run_levels(33, 4, {3, 3, 2, 5, 1, 2, 2, 1});
      run_levels(48, 1, {1, 4, 3, 1, 2, 2, 1, 1, 2, 3});
      run_levels(8, 150, {2, 1});  // blocks shrink and groups widen until the tables fit
    }
  }
  std::printf("%llu cases\n", static_cast<unsigned long long>(number / stride));
}

void run_shortened(const std::string& buffer) {
  // So many readings that one of them needs the last number.
  const bool fused = buffer == "reference";
  run({kFloat, fused, false, fused, 1, 2, 33, 5, 4, {3, 5, 2, 2}}, 1, buffer);
}

}  // namespace cuda_on_host

int main(int count, char** words) {
  using namespace cuda_on_host;
  const std::string command = count > 1 ? words[1] : "";
  try {
    if (command == "every" && count > 2) {
      run_cases(std::stoull(words[2]));
    } else if (command == "shortened" && count > 2) {
      run_shortened(words[2]);
    } else if (command == "wrong" && count > 2) {
      run_wrong_kernel(words[2]);
    } else {
      throw std::runtime_error("unknown command " + command);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}

#endif
