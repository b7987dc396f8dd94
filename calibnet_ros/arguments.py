"""Command lines that hold arguments of a program and of ROS."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rclpy.utilities import remove_ros_args


def split_arguments(argv: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """The program's own arguments, and those from `--ros-args` on.

    Args:
        argv: arguments after the program's name; None takes those of the process.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    own: list[str] = remove_ros_args([sys.argv[0], *given])[1:]
    return own, given[given.index("--ros-args") :] if "--ros-args" in given else []
