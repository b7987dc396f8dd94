// As much of CUDA as the deformable attention kernels use, executed on the host.
//
// Every thread of a block is a fiber. A lane runs until it reaches a warp synchronisation; once all
// 32 have arrived, all go on. Lanes take turns in a random order, warps are interleaved at random
// from one synchronisation to the next, blocks come one after another in a random order. What real
// hardware leaves undefined is reported: lanes of one warp that stop at different places, and
// vectors that are not aligned. Shared memory starts as NaN.
//
// Built with a thread sanitizer, lanes count as threads and only __syncwarp orders their memory (a
// shuffle does not, in CUDA's own words), so that a kernel's data races are reported.
#pragma once

// What CUDA's headers define for nvcc alone.
#define __launch_bounds__(...)

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

// For functions that lanes call: the sanitizer must not take the emulation's own notes, which the
// scheduler reads, for memory that the kernel shares.
#define UNWATCHED __attribute__((noinline, no_sanitize_thread))

namespace cuda_on_host {

constexpr unsigned kWarpSize = 32;
constexpr size_t kStackBytes = 64 * 1024;

enum class Stop { kBarrier, kShuffle, kEnd };

// Where a lane stopped, and with which arguments.
struct Arrival {
  Stop stop;
  unsigned mask;
  int distance, bytes;

  bool operator==(const Arrival& other) const {
    return stop == other.stop && mask == other.mask && distance == other.distance &&
           bytes == other.bytes;
  }
  std::string text() const {
    if (stop == Stop::kEnd) return "the kernel's end";
    if (stop == Stop::kBarrier) return "__syncwarp of mask " + std::to_string(mask);
    return "__shfl_xor_sync of mask " + std::to_string(mask) + ", distance " +
           std::to_string(distance) + ", " + std::to_string(bytes) + " bytes";
  }
};

// Two of each: a lane that goes on may reach the next synchronisation before another one has left
// the last.
struct Warp {
  unsigned char exchanged[2][kWarpSize][sizeof(double)];
  char ordering[2];  // their addresses name the barriers
};

struct Lane {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[kStackBytes]};
  Warp* warp;
  Arrival arrival;
  unsigned thread, barriers, shuffles;
  void* fiber = nullptr;
};

class Grid {
 public:
  Grid(unsigned blocks, unsigned threads, size_t shared_bytes, uint64_t seed)
      : threads_(threads), random_(seed), warps_(size_t{blocks} * (threads / kWarpSize)) {
    while (lanes_.size() < threads) lanes_.push_back(std::make_unique<Lane>());
    if (threads == 0 || threads % kWarpSize != 0) {
      throw std::runtime_error(std::to_string(threads) + " threads are not whole warps");
    }
    for (unsigned block = 0; block < blocks; ++block) {
      // One piece of its own for each block, of just the size asked for: a sanitizer sees the ends.
      shared_.emplace_back(static_cast<char*>(operator new(shared_bytes, kAlignment)));
      std::memset(shared_.back().get(), 0xff, shared_bytes);
    }
  }

  // Run `kernel` once for every thread of every block.
  void run(const std::function<void()>& kernel) {
    current_ = this;
    kernel_ = &kernel;
    begin();
    std::vector<unsigned> blocks(shared_.size());
    std::iota(blocks.begin(), blocks.end(), 0u);
    std::shuffle(blocks.begin(), blocks.end(), random_);
    std::string fault;
    for (unsigned block : blocks) {
      if (fault.empty()) fault = run_block(block);
    }
    end();
    current_ = nullptr;
    if (!fault.empty()) throw std::runtime_error(fault);
  }

  // ---- what lanes call ----

  UNWATCHED static unsigned thread() { return current_->lane_->thread; }
  UNWATCHED static unsigned block() { return current_->block_; }
  UNWATCHED static unsigned threads() { return current_->threads_; }
  UNWATCHED static char* shared() { return current_->shared_[current_->block_].get(); }

  UNWATCHED static void barrier(unsigned mask) {
    Lane& lane = *current_->lane_;
    [[maybe_unused]] char* ordering = &lane.warp->ordering[lane.barriers++ % 2];
#if defined(__SANITIZE_THREAD__)
    __tsan_release(ordering);
#endif
    stop({Stop::kBarrier, mask, 0, 0});
#if defined(__SANITIZE_THREAD__)
    __tsan_acquire(ordering);
#endif
  }

  template <typename Number>
  UNWATCHED static Number exchange(unsigned mask, Number number, int distance) {
    Lane& lane = *current_->lane_;
    auto* slots = lane.warp->exchanged[lane.shuffles++ % 2];
    const unsigned own = lane.thread % kWarpSize;
    const unsigned other = own ^ static_cast<unsigned>(distance);
    copy(slots[own], &number, sizeof(Number));
    stop({Stop::kShuffle, mask, distance, static_cast<int>(sizeof(Number))});
    // As on the device, a lane beyond the warp gives the own number.
    if (other < kWarpSize) copy(&number, slots[other], sizeof(Number));
    return number;
  }

  UNWATCHED static void require_aligned(const void* pointer, const char* what) {
    if (reinterpret_cast<uintptr_t>(pointer) % 16 != 0 && current_->complaint_ == nullptr) {
      current_->complaint_ = what;
    }
  }

 private:
  static constexpr std::align_val_t kAlignment{16};
  struct Free {
    void operator()(char* memory) const { operator delete(memory, kAlignment); }
  };

  // Not memcpy, which a thread sanitizer watches wherever it is called.
  UNWATCHED static void copy(void* to, const void* from, size_t bytes) {
    for (size_t i = 0; i < bytes; ++i) {
      static_cast<volatile char*>(to)[i] = static_cast<const volatile char*>(from)[i];
    }
  }

  UNWATCHED static void stop(const Arrival& arrival) {
    Grid& grid = *current_;
    Lane& lane = *grid.lane_;
    lane.arrival = arrival;
#if defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(grid.fiber_, __tsan_switch_to_fiber_no_sync);
#endif
    swapcontext(&lane.context, &grid.context_);
  }

  UNWATCHED void resume(Lane& lane) {
    lane_ = &lane;
#if defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(lane.fiber, __tsan_switch_to_fiber_no_sync);
#endif
    swapcontext(&context_, &lane.context);
  }

  UNWATCHED static void enter() {
    Grid& grid = *current_;
#if defined(__SANITIZE_THREAD__)
    __tsan_acquire(&grid.launched_);
#endif
    (*grid.kernel_)();
#if defined(__SANITIZE_THREAD__)
    __tsan_release(&grid.finished_);
#endif
    stop({Stop::kEnd, 0, 0, 0});
  }

  // Everything before the launch happens before every lane, and every lane before what follows the
  // launch; but nothing orders one lane, or block, and another.
  void begin() {
#if defined(__SANITIZE_THREAD__)
    fiber_ = __tsan_get_current_fiber();
    for (auto& lane : lanes_) {
      if (lane->fiber == nullptr) lane->fiber = __tsan_create_fiber(0);
    }
    __tsan_release(&launched_);
#endif
  }
  void end() {
#if defined(__SANITIZE_THREAD__)
    __tsan_acquire(&finished_);
#endif
  }

  // Empty, or what went wrong.
  std::string run_block(unsigned block) {
    block_ = block;
    for (unsigned thread = 0; thread < threads_; ++thread) {
      Lane& lane = *lanes_[thread];
      lane.thread = thread;
      lane.barriers = lane.shuffles = 0;
      lane.warp = &warps_[(size_t{block} * threads_ + thread) / kWarpSize];
      getcontext(&lane.context);
      lane.context.uc_stack.ss_sp = lane.stack.get();
      lane.context.uc_stack.ss_size = kStackBytes;
      lane.context.uc_link = nullptr;
      makecontext(&lane.context, &Grid::enter, 0);
    }
    std::vector<unsigned> running(threads_ / kWarpSize);
    std::iota(running.begin(), running.end(), 0u);
    while (!running.empty()) {
      const size_t chosen = random_() % running.size();
      const unsigned warp = running[chosen];
      const std::string fault = advance(warp);
      if (!fault.empty()) {
        return "block " + std::to_string(block) + ", warp " + std::to_string(warp) + ": " + fault;
      }
      if (lanes_[warp * kWarpSize]->arrival.stop == Stop::kEnd) {
        running.erase(running.begin() + static_cast<ptrdiff_t>(chosen));
      }
    }
    return {};
  }

  // Run every lane of a warp to its next stop, which must be the same for all.
  std::string advance(unsigned warp) {
    unsigned order[kWarpSize];
    std::iota(order, order + kWarpSize, 0u);
    std::shuffle(order, order + kWarpSize, random_);
    const auto* lanes = &lanes_[warp * kWarpSize];
    for (unsigned number : order) resume(*lanes[number]);
    if (complaint_ != nullptr) return complaint_;
    const Arrival& first = lanes[0]->arrival;
    for (unsigned number = 0; number < kWarpSize; ++number) {
      const Arrival& arrival = lanes[number]->arrival;
      if (!(arrival == first)) {
        return "lane 0 is at " + first.text() + ", lane " + std::to_string(number) + " at " +
               arrival.text();
      }
      if (arrival.stop != Stop::kEnd && arrival.mask != 0xffffffffu) {
        return "only full masks are emulated; lanes are at " + arrival.text();
      }
    }
    return {};
  }

  inline static Grid* current_ = nullptr;
  inline static std::vector<std::unique_ptr<Lane>> lanes_;  // kept, being slow to make
  unsigned threads_, block_ = 0;
  std::mt19937_64 random_;
  std::vector<Warp> warps_;  // of every block
  std::vector<std::unique_ptr<char, Free>> shared_;
  const std::function<void()>* kernel_ = nullptr;
  Lane* lane_ = nullptr;
  ucontext_t context_;
  const char* complaint_ = nullptr;  // of a lane
  [[maybe_unused]] void* fiber_ = nullptr;
  [[maybe_unused]] char launched_ = 0, finished_ = 0;
};

template <unsigned (*Index)()>
struct Coordinate {
  operator unsigned() const { return Index(); }
};
template <unsigned (*Index)()>
struct Coordinates {
  Coordinate<Index> x;
};

// Atomic for the sanitizer's sake: lanes never run at the same time.
template <typename Bits, typename Real>
Real add_atomically(Real* to, Real number) {
  static_assert(sizeof(Bits) == sizeof(Real));
  Bits* bits = reinterpret_cast<Bits*>(to);
  Bits before = __atomic_load_n(bits, __ATOMIC_RELAXED), after;
  Real old;
  do {
    std::memcpy(&old, &before, sizeof(old));
    const Real sum = old + number;
    std::memcpy(&after, &sum, sizeof(after));
  } while (!__atomic_compare_exchange_n(bits, &before, after, false, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED));
  return old;
}

}  // namespace cuda_on_host

inline constexpr cuda_on_host::Coordinates<cuda_on_host::Grid::thread> threadIdx{};
inline constexpr cuda_on_host::Coordinates<cuda_on_host::Grid::block> blockIdx{};
inline constexpr cuda_on_host::Coordinates<cuda_on_host::Grid::threads> blockDim{};

#define CALIBNET_SHARED(Type, name) \
  Type* name = reinterpret_cast<Type*>(cuda_on_host::Grid::shared())

inline void __syncwarp(unsigned mask = 0xffffffffu) { cuda_on_host::Grid::barrier(mask); }

inline float __shfl_xor_sync(unsigned mask, float number, int distance) {
  return cuda_on_host::Grid::exchange(mask, number, distance);
}
inline double __shfl_xor_sync(unsigned mask, double number, int distance) {
  return cuda_on_host::Grid::exchange(mask, number, distance);
}

inline float atomicAdd(float* to, float number) {
  return cuda_on_host::add_atomically<uint32_t>(to, number);
}
inline double atomicAdd(double* to, double number) {
  return cuda_on_host::add_atomically<uint64_t>(to, number);
}
inline float4 atomicAdd(float4* to, float4 numbers) {
  cuda_on_host::Grid::require_aligned(to, "an atomicAdd of float4 is not aligned");
  float* one = reinterpret_cast<float*>(to);
  return {atomicAdd(one, numbers.x), atomicAdd(one + 1, numbers.y), atomicAdd(one + 2, numbers.z),
          atomicAdd(one + 3, numbers.w)};
}

inline uint4 __ldg(const uint4* from) {
  cuda_on_host::Grid::require_aligned(from, "an __ldg of uint4 is not aligned");
  return *from;
}
