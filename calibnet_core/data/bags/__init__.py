"""RGB-D recordings as rosbag2, SQLite or MCAP, read and written without a ROS installation."""

from calibnet_core.data.bags.frames import (
    BagReport,
    RejectedImage,
    read_frames,
)
from calibnet_core.data.bags.labels import read_labels
from calibnet_core.data.bags.reading import (
    BagError,
    BagMessage,
    BagTopic,
    RgbdBag,
    is_bag,
    open_rgbd_bag,
)
from calibnet_core.data.bags.topics import raw_name
from calibnet_core.data.bags.writing import write_rgbd_bag

__all__ = [
    "BagError",
    "BagMessage",
    "BagReport",
    "BagTopic",
    "RejectedImage",
    "RgbdBag",
    "is_bag",
    "open_rgbd_bag",
    "raw_name",
    "read_frames",
    "read_labels",
    "write_rgbd_bag",
]
