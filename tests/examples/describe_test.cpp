// Prints what the C++ example says about one instance, filled through the real message's class.
#include "describe.hpp"

#include <cmath>
#include <cstdio>
#include <string>

using calibnet_ros::msg::InstanceMask;

int main() {
  InstanceMask instance;
  instance.instance_id = 3;
  instance.score = 0.825F;
  instance.depth_median = 1.5F;
  instance.roi.x_offset = 40;
  instance.roi.y_offset = 7;
  instance.roi.height = 2;
  instance.roi.width = 3;
  instance.mask_encoding = InstanceMask::MASK_ENCODING_BITS;
  instance.mask_data = {0xC0, 0x20};  // ##. and ..#
  std::puts(describe(instance).c_str());
  instance.depth_median = std::nanf("");
  instance.mask_data.pop_back();
  std::puts(describe(instance).c_str());
  return 0;
}
