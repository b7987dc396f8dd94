"""RGB-D data in and out: images and folders, rosbag2 recordings, and scenes rendered by formula."""
