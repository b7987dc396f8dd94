// Bilinear reading along one axis, the same on every device.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define CALIBNET_EVERYWHERE __host__ __device__ __forceinline__
#else
#define CALIBNET_EVERYWHERE inline __attribute__((always_inline))
#endif

namespace calibnet {

// The two grid lines around a pixel coordinate and what each contributes.
template <typename Real>
struct Lines {
  int32_t lower, upper;             // inside the map, also where the line is not
  Real lower_share, upper_share;    // 0 outside the map
  Real lower_inside, upper_inside;  // 1 or 0
  Real fraction;                    // of a cell from the lower line to the coordinate
};

// Readings between the outermost lines and one cell beyond fade to 0; farther out they are 0.
template <typename Real>
CALIBNET_EVERYWHERE Lines<Real> lines_around(Real pixel, int32_t size) {
  const Real beyond = static_cast<Real>(size) + Real(1);
  // The order of the comparisons sends NaN to -2, which reads nothing; and it bounds the value
  // before the conversion to an integer, which is undefined for large ones.
  pixel = pixel > Real(-2) ? pixel : Real(-2);
  pixel = pixel < beyond ? pixel : beyond;
  int32_t lower = static_cast<int32_t>(pixel);
  lower -= static_cast<int32_t>(static_cast<Real>(lower) > pixel);
  const int32_t upper = lower + 1, last = size - 1;
  // No && and no branch: a loop around this becomes vector instructions.
  Lines<Real> lines;
  lines.fraction = pixel - static_cast<Real>(lower);
  lines.lower_inside = static_cast<Real>((lower >= 0) & (lower < size));
  lines.upper_inside = static_cast<Real>((upper >= 0) & (upper < size));
  lines.lower_share = (Real(1) - lines.fraction) * lines.lower_inside;
  lines.upper_share = lines.fraction * lines.upper_inside;
  lines.lower = lower < 0 ? 0 : lower;
  lines.upper = upper < 0 ? 0 : upper;
  lines.lower = lines.lower > last ? last : lines.lower;
  lines.upper = lines.upper > last ? last : lines.upper;
  return lines;
}

}  // namespace calibnet
