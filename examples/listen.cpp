// Print what a perception node sees: `listen`, beside a running node.
//
// For a node of another name add `--ros-args -r /calibnet/instances:=/front/calibnet/instances`.
#include <calibnet_ros/msg/instance_mask_array.hpp>
#include <cstdio>
#include <memory>
#include <rclcpp/rclcpp.hpp>

#include "describe.hpp"

using calibnet_ros::msg::InstanceMaskArray;

class Listener : public rclcpp::Node {
 public:
  Listener() : rclcpp::Node("listen") {
    // An empty list says "looked, found nothing"; no message says that nobody looked.
    subscription_ = create_subscription<InstanceMaskArray>(
        "/calibnet/instances", 5, [](const InstanceMaskArray& msg) { print(msg); });
  }

 private:
  /// Print the objects of one frame, best first.
  static void print(const InstanceMaskArray& msg) {
    const double seconds = msg.header.stamp.sec + msg.header.stamp.nanosec / 1e9;
    std::printf("%.3f s, %s: %zu objects\n", seconds, msg.header.frame_id.c_str(),
                msg.instances.size());
    for (const auto& instance : msg.instances) std::printf("  %s\n", describe(instance).c_str());
    std::fflush(stdout);
  }

  rclcpp::Subscription<InstanceMaskArray>::SharedPtr subscription_;
};

int main(int argc, char** argv) {
  rclcpp::init(argc, argv);
  rclcpp::spin(std::make_shared<Listener>());
  rclcpp::shutdown();
  return 0;
}
