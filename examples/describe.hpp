// What listen.cpp says about one object; needs the messages and no running ROS.
#ifndef DESCRIBE_HPP_
#define DESCRIBE_HPP_

#include <algorithm>
#include <calibnet_ros/mask_codec.hpp>
#include <calibnet_ros/msg/instance_mask.hpp>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

/// One object in a line: id, score, distance and what its mask covers.
inline std::string describe(const calibnet_ros::msg::InstanceMask& instance) {
  char text[96];
  std::snprintf(text, sizeof(text), "%u: score %.2f, ", unsigned{instance.instance_id},
                static_cast<double>(instance.score));
  std::string line = text;
  if (std::isfinite(instance.depth_median)) {
    std::snprintf(text, sizeof(text), "%.2f m away, ", static_cast<double>(instance.depth_median));
    line += text;
  } else {
    line += "distance unknown, ";
  }
  try {
    // roi.height * roi.width bytes, 255 inside: the box whose top-left corner is the roi's offset.
    const std::vector<std::uint8_t> mask = calibnet_ros::decode_mask(instance);
    std::snprintf(text, sizeof(text), "%ld pixels from (%u, %u) on",
                  static_cast<long>(std::count(mask.begin(), mask.end(), 255)),
                  unsigned{instance.roi.x_offset}, unsigned{instance.roi.y_offset});
    return line + text;
  } catch (const calibnet_ros::MaskFormatError& error) {
    return line + "no mask: " + error.what();
  }
}

#endif  // DESCRIBE_HPP_
