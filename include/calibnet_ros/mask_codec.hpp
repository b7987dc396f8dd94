// Masks of calibnet_ros/InstanceMask in C++17: decoder and encoder, standard library only.
//
// The twin of calibnet_core/perception/mask_codec.py: the same bytes, the same refusals. Both pass
// the vectors of tests/golden/mask_codec.json.
//
//   for (const auto& instance : array.instances) {
//     std::vector<std::uint8_t> mask = calibnet_ros::decode_mask(instance);  // of instance.roi
//   }
#ifndef CALIBNET_ROS__MASK_CODEC_HPP_
#define CALIBNET_ROS__MASK_CODEC_HPP_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace calibnet_ros {

/// Larger masks are refused: a corrupt size must not make the decoder allocate without bound.
constexpr std::uint64_t kMaxMaskPixels = std::uint64_t{1} << 26;

/// How the pixels of a mask are stored. The value is the number in the message.
enum class MaskEncoding : std::uint8_t {
  /// No pixels, only the box.
  kNone = 0,
  /// One bit a pixel, most significant bit leftmost, each row padded to whole bytes with zeros.
  kBits = 1,
  /// One byte a pixel: 255 inside, 0 outside.
  kMono8 = 2,
  /// Alternating run lengths over the rows, background first, each as an unsigned LEB128 number.
  kRle = 3,
};

/// Mask data contradict their size or encoding.
class MaskFormatError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

namespace detail {

// Enough for 2^35, and so for any run of a mask within the limit.
constexpr std::size_t kMaxVarintBytes = 5;

inline std::string size_text(std::uint64_t height, std::uint64_t width) {
  return "a mask of height " + std::to_string(height) + ", width " + std::to_string(width);
}

inline std::size_t checked_pixels(std::uint64_t height, std::uint64_t width) {
  // A quotient, because the product of hostile sizes could wrap around.
  if (height < 1 || width < 1 || height > kMaxMaskPixels / width) {
    throw MaskFormatError(size_text(height, width) + " is refused; give it 1 to " +
                          std::to_string(kMaxMaskPixels) + " pixels");
  }
  return static_cast<std::size_t>(height * width);
}

inline MaskEncoding known_encoding(unsigned value) {
  if (value > static_cast<unsigned>(MaskEncoding::kRle)) {
    throw MaskFormatError("mask_encoding " + std::to_string(value) +
                          " is unknown; use one of 0 (none), 1 (bits), 2 (mono8), 3 (rle)");
  }
  return static_cast<MaskEncoding>(value);
}

inline void check_length(std::size_t size, std::size_t expected, const char* encoding,
                         std::uint64_t height, std::uint64_t width) {
  if (size != expected) {
    throw MaskFormatError(size_text(height, width) + " in encoding " + encoding + " takes " +
                          std::to_string(expected) + " bytes, not " + std::to_string(size) +
                          "; pass the height and width of its roi");
  }
}

/// Takes the next number of checked run lengths and moves `place` behind it.
inline std::uint64_t next_run(const std::uint8_t* data, std::size_t& place) {
  std::uint64_t run = 0;
  for (unsigned shift = 0;; shift += 7) {
    const std::uint8_t byte = data[place++];
    run |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) return run;
  }
}

/// Refuses run lengths that do not fill exactly `pixels`; allocates nothing.
inline void check_runs(const std::uint8_t* data, std::size_t size, std::size_t pixels,
                       std::uint64_t height, std::uint64_t width) {
  const auto refuse = [&](const std::string& why) {
    throw MaskFormatError("run lengths of " + size_text(height, width) + " " + why);
  };
  if (size == 0 || data[size - 1] >= 0x80) {
    refuse("stop within a number; the data were cut short");
  }
  std::size_t length = 0;
  std::size_t longest = 0;
  for (std::size_t place = 0; place < size; ++place) {
    longest = std::max(longest, ++length);
    if (data[place] < 0x80) length = 0;
  }
  if (longest > kMaxVarintBytes) {
    refuse("hold a number of " + std::to_string(longest) + " bytes, more than " +
           std::to_string(kMaxVarintBytes) + "; check mask_encoding");
  }
  std::uint64_t total = 0;
  for (std::size_t place = 0; place < size;) {
    const bool is_first = place == 0;
    const std::uint64_t run = next_run(data, place);
    if (run == 0 && !is_first) refuse("hold an empty run; only the first may be empty");
    // Held at one too many, because a sum of hostile runs could wrap around.
    total = std::min<std::uint64_t>(total + run, std::uint64_t{pixels} + 1);
  }
  if (total != pixels) {
    refuse("must add up to " + std::to_string(pixels) +
           " pixels; pass the height and width of its roi");
  }
}

inline void append_run(std::vector<std::uint8_t>& data, std::uint64_t run) {
  for (; run > 0x7F; run >>= 7) data.push_back(static_cast<std::uint8_t>((run & 0x7F) | 0x80));
  data.push_back(static_cast<std::uint8_t>(run));
}

}  // namespace detail

/// Decode the mask of one box.
///
/// Padding bits of `kBits` are ignored, and any byte of `kMono8` but 0 is inside. Nothing is
/// allocated before the data are known to be sound.
///
/// @param data `size` bytes, as in `mask_data`; may be null when `size` is 0.
/// @param height rows of the box, `roi.height`.
/// @param width columns of the box, `roi.width`.
/// @param encoding the number of a `MaskEncoding`, as in `mask_encoding`.
/// @return height * width bytes, row-major: 255 inside, 0 outside.
/// @throws MaskFormatError if the size is zero or beyond `kMaxMaskPixels`, if the data do not have
///   exactly the length or the runs of that size, or if the encoding is unknown or `kNone`, which
///   carries no pixels.
inline std::vector<std::uint8_t> decode_mask(const std::uint8_t* data, std::size_t size,
                                             std::uint64_t height, std::uint64_t width,
                                             unsigned encoding) {
  const std::size_t pixels = detail::checked_pixels(height, width);
  const std::size_t columns = static_cast<std::size_t>(width);
  switch (detail::known_encoding(encoding)) {
    case MaskEncoding::kBits: {
      const std::size_t row_bytes = (columns + 7) / 8;
      detail::check_length(size, row_bytes * static_cast<std::size_t>(height), "bits", height,
                           width);
      std::vector<std::uint8_t> mask(pixels);
      auto pixel = mask.begin();
      for (const std::uint8_t* row = data; pixel != mask.end(); row += row_bytes) {
        for (std::size_t column = 0; column < columns; ++column) {
          *pixel++ = (row[column / 8] & 0x80U >> column % 8) != 0 ? 255 : 0;
        }
      }
      return mask;
    }
    case MaskEncoding::kMono8: {
      detail::check_length(size, pixels, "mono8", height, width);
      std::vector<std::uint8_t> mask(data, data + size);
      for (std::uint8_t& pixel : mask) pixel = pixel != 0 ? 255 : 0;
      return mask;
    }
    case MaskEncoding::kRle: {
      detail::check_runs(data, size, pixels, height, width);
      std::vector<std::uint8_t> mask(pixels);
      std::size_t pixel = 0;
      bool is_inside = false;
      for (std::size_t place = 0; place < size; is_inside = !is_inside) {
        const std::size_t run = static_cast<std::size_t>(detail::next_run(data, place));
        if (is_inside) std::fill_n(mask.begin() + static_cast<std::ptrdiff_t>(pixel), run, 255);
        pixel += run;
      }
      return mask;
    }
    case MaskEncoding::kNone:
      break;
  }
  throw MaskFormatError(
      "a mask of encoding none carries no pixels; set output.mask_encoding to bits, mono8 or rle");
}

/// Decode the mask of a calibnet_ros::msg::InstanceMask, or of anything with these fields.
///
/// @return `roi.height` * `roi.width` bytes, row-major: 255 inside, 0 outside.
/// @throws MaskFormatError as above.
template <typename InstanceMask>
std::vector<std::uint8_t> decode_mask(const InstanceMask& instance) {
  return decode_mask(instance.mask_data.data(), instance.mask_data.size(), instance.roi.height,
                     instance.roi.width, instance.mask_encoding);
}

/// Encode the mask of one box.
///
/// @param pixels height * width bytes, row-major; any value but 0 is inside.
/// @return the bytes of `mask_data`.
/// @throws MaskFormatError if the mask has no pixels or more than `kMaxMaskPixels`.
inline std::vector<std::uint8_t> encode_mask(const std::uint8_t* pixels, std::uint64_t height,
                                             std::uint64_t width, MaskEncoding encoding) {
  const std::size_t count = detail::checked_pixels(height, width);
  const std::size_t columns = static_cast<std::size_t>(width);
  std::vector<std::uint8_t> data;
  switch (detail::known_encoding(static_cast<unsigned>(encoding))) {
    case MaskEncoding::kNone:
      break;
    case MaskEncoding::kBits: {
      const std::size_t row_bytes = (columns + 7) / 8;
      data.resize(row_bytes * static_cast<std::size_t>(height));
      for (std::size_t row = 0; row < height; ++row) {
        for (std::size_t column = 0; column < columns; ++column) {
          const unsigned bit = pixels[row * columns + column] != 0 ? 0x80U >> column % 8 : 0U;
          data[row * row_bytes + column / 8] |= static_cast<std::uint8_t>(bit);
        }
      }
      break;
    }
    case MaskEncoding::kMono8:
      data.assign(pixels, pixels + count);
      for (std::uint8_t& pixel : data) pixel = pixel != 0 ? 255 : 0;
      break;
    case MaskEncoding::kRle: {
      bool is_inside = false;  // runs begin with background, which may be an empty one
      std::uint64_t run = 0;
      for (std::size_t pixel = 0; pixel < count; ++pixel) {
        if ((pixels[pixel] != 0) != is_inside) {
          detail::append_run(data, run);
          is_inside = !is_inside;
          run = 0;
        }
        ++run;
      }
      detail::append_run(data, run);
      break;
    }
  }
  return data;
}

}  // namespace calibnet_ros

#endif  // CALIBNET_ROS__MASK_CODEC_HPP_
