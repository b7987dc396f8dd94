// Checks include/calibnet_ros/mask_codec.hpp: `mask_codec_test VECTORS SEED ROUNDS`.
//
// Each line of VECTORS holds, separated by tabs: name, height, width, encoding, data as hex or "-",
// what to do, and what must come of it:
//   both    the mask as a string of 0 and 1, rows one after the other; encoding it gives the data
//   decode  the same, but another encoder might have written the data
//   refuse  words that are part of the message
// Then come ROUNDS of random masks, which must survive, and of random and damaged data, which must
// give a mask of the right size or a MaskFormatError. Sanitizers see the rest.
#include "calibnet_ros/mask_codec.hpp"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

namespace {

using calibnet_ros::decode_mask;
using calibnet_ros::encode_mask;
using calibnet_ros::MaskEncoding;
using calibnet_ros::MaskFormatError;
using Bytes = std::vector<std::uint8_t>;

int num_failures = 0;

void fail(const std::string& name, const std::string& what) {
  std::printf("%s: %s\n", name.c_str(), what.c_str());
  ++num_failures;
}

Bytes from_hex(const std::string& text) {
  Bytes data;
  if (text == "-") return data;
  for (std::size_t place = 0; place + 1 < text.size(); place += 2) {
    data.push_back(static_cast<std::uint8_t>(std::stoul(text.substr(place, 2), nullptr, 16)));
  }
  // Without spare room a sanitizer sees the first byte read beyond the end.
  data.shrink_to_fit();
  return data;
}

Bytes from_digits(const std::string& digits) {
  Bytes mask;
  for (const char digit : digits) mask.push_back(digit == '1' ? 255 : 0);
  return mask;
}

void check_vector(const std::vector<std::string>& fields) {
  const std::string& name = fields[0];
  const std::uint64_t height = std::stoull(fields[1]);
  const std::uint64_t width = std::stoull(fields[2]);
  const unsigned encoding = static_cast<unsigned>(std::stoul(fields[3]));
  const Bytes data = from_hex(fields[4]);
  const std::string& task = fields[5];
  try {
    const Bytes mask = decode_mask(data.data(), data.size(), height, width, encoding);
    if (task == "refuse") return fail(name, "was accepted");
    if (mask != from_digits(fields[6])) return fail(name, "decodes to another mask");
    if (task != "both") return;
    if (encode_mask(mask.data(), height, width, static_cast<MaskEncoding>(encoding)) != data) {
      fail(name, "encodes to other bytes");
    }
  } catch (const MaskFormatError& error) {
    const bool is_expected =
        task == "refuse" && std::string(error.what()).find(fields[6]) != std::string::npos;
    if (!is_expected) fail(name, std::string("was refused: ") + error.what());
  }
}

int check_vectors(const char* path) {
  std::ifstream file(path);
  int count = 0;
  for (std::string line; std::getline(file, line); ++count) {
    std::vector<std::string> fields;
    std::istringstream stream(line);
    for (std::string field; std::getline(stream, field, '\t');) fields.push_back(field);
    if (fields.size() == 7) {
      check_vector(fields);
    } else {
      fail("line " + std::to_string(count + 1), "has not seven fields");
    }
  }
  return count;
}

void check_refusals_of_the_encoder() {
  const std::uint8_t pixel = 1;
  try {
    encode_mask(&pixel, 0, 4, MaskEncoding::kBits);
    fail("encoder", "accepted a mask without pixels");
  } catch (const MaskFormatError&) {
  }
  try {
    encode_mask(&pixel, 1, 1, static_cast<MaskEncoding>(7));
    fail("encoder", "accepted an unknown encoding");
  } catch (const MaskFormatError&) {
  }
  if (!encode_mask(&pixel, 1, 1, MaskEncoding::kNone).empty()) fail("encoder", "none has bytes");
}

class Fuzzer {
 public:
  explicit Fuzzer(std::uint64_t seed) : generator_(seed) {}

  void round() {
    const std::size_t height = below(24) + 1;
    const std::size_t width = below(24) + 1;
    const std::size_t share = below(101);
    Bytes mask(height * width);
    for (std::uint8_t& pixel : mask) pixel = below(100) < share ? 255 : 0;
    const unsigned encoding = static_cast<unsigned>(below(3)) + 1;
    const Bytes data = encode_mask(mask.data(), height, width, static_cast<MaskEncoding>(encoding));
    if (decode_mask(data.data(), data.size(), height, width, encoding) != mask) {
      fail("round trip", std::to_string(height) + "x" + std::to_string(width));
    }
    try_to_decode(damaged(data), height, width, encoding);
    Bytes noise(below(40));
    for (std::uint8_t& byte : noise) byte = static_cast<std::uint8_t>(below(256));
    try_to_decode(noise, below(12), below(12), static_cast<unsigned>(below(5)));
  }

 private:
  Bytes damaged(Bytes data) {
    for (std::size_t count = below(3) + 1; count > 0; --count) {
      switch (below(3)) {
        case 0:
          data.push_back(static_cast<std::uint8_t>(below(256)));
          break;
        case 1:
          if (!data.empty()) data.pop_back();
          break;
        default:
          if (!data.empty()) data[below(data.size())] ^= static_cast<std::uint8_t>(below(256));
      }
    }
    data.shrink_to_fit();
    return data;
  }

  void try_to_decode(const Bytes& data, std::size_t height, std::size_t width, unsigned encoding) {
    try {
      const Bytes mask = decode_mask(data.data(), data.size(), height, width, encoding);
      if (mask.size() != height * width) fail("fuzz", "a mask of another size");
    } catch (const MaskFormatError&) {
    }
  }

  std::size_t below(std::size_t limit) { return static_cast<std::size_t>(generator_() % limit); }

  std::mt19937_64 generator_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::puts("usage: mask_codec_test VECTORS SEED ROUNDS");
    return 2;
  }
  const int num_vectors = check_vectors(argv[1]);
  check_refusals_of_the_encoder();
  Fuzzer fuzzer(std::strtoull(argv[2], nullptr, 10));
  for (long round = std::atol(argv[3]); round > 0; --round) fuzzer.round();
  std::printf("%d vectors, %d failures\n", num_vectors, num_failures);
  return num_failures == 0 && num_vectors > 0 ? 0 : 1;
}
