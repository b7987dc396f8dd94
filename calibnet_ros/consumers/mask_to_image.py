"""One instance as a plain picture: `~/mask`, mono8, 255 inside and 0 outside.

Subscribes to `instances`. While the object is not among those seen the picture is black: the node
looked and did not find it. Without a message there is no picture: nobody looked.
"""

from __future__ import annotations

import array
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sensor_msgs.msg import Image

from calibnet_core.perception.mask_codec import MAX_INSTANCES, MaskFormatError
from calibnet_ros import qos
from calibnet_ros.consumers.masks import full_mask
from calibnet_ros.consumers.running import Consumer, run, setting
from calibnet_ros.msg import InstanceMask, InstanceMaskArray

NODE_NAME = "mask_to_image"
_COMPLAINT_PERIOD_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which instance to show. With both numbers 0 it is the one with the best score.

    Raises:
        ValueError: both numbers are given, or one is out of range.
    """

    instance_id: int = setting(
        0, f"Id within the frame, 1 to {MAX_INSTANCES}, as in the label image. 0: not by this id."
    )
    track_id: int = setting(0, "Id that lasts from frame to frame, 1 or more. 0: not by this id.")

    def __post_init__(self) -> None:
        if not 0 <= self.instance_id <= MAX_INSTANCES:
            raise ValueError(f"instance_id is {self.instance_id}; choose 0 to {MAX_INSTANCES}")
        if self.track_id < 0:
            raise ValueError(f"track_id is {self.track_id}; choose 0 or more")
        if self.instance_id and self.track_id:
            raise ValueError(
                f"instance_id is {self.instance_id} and track_id is {self.track_id}; set one of "
                "them back to 0"
            )

    def of(self, instances: Sequence[InstanceMask]) -> InstanceMask | None:
        """The instance meant, if it was seen; `instances` come best first."""
        for instance in instances:
            if self.instance_id and instance.instance_id != self.instance_id:
                continue
            if self.track_id and instance.track_id != self.track_id:
                continue
            return instance
        return None


def mask_image(msg: InstanceMaskArray, selection: Selection) -> Image:
    """The picture of the instance meant, in the size, stamp and frame of the colour image.

    Raises:
        MaskFormatError: the message contradicts itself, or carries no pixels.
    """
    instance = selection.of(msg.instances)
    height, width = int(msg.height), int(msg.width)
    if instance is None:
        data = bytes(height * width)
    else:
        data = np.where(full_mask(instance, height, width), np.uint8(255), np.uint8(0)).tobytes()
    return Image(
        header=msg.header,
        height=height,
        width=width,
        encoding="mono8",
        is_bigendian=0,
        step=width,
        data=array.array("B", data),
    )


class MaskToImage(Consumer[Selection]):
    """See the module."""

    def __init__(self) -> None:
        super().__init__(NODE_NAME, Selection())
        options = {"qos_overriding_options": qos.overridable()}
        self._publisher = self.create_publisher(Image, "~/mask", qos.own(qos.PICTURE), **options)
        self.create_subscription(
            InstanceMaskArray, "instances", self._on_instances, qos.own(qos.RESULT), **options
        )

    def _on_instances(self, msg: InstanceMaskArray) -> None:
        if not self._publisher.get_subscription_count():
            return
        try:
            picture = mask_image(msg, self.settings)
        except MaskFormatError as error:
            self.get_logger().warning(
                f"published no mask: {error}", throttle_duration_sec=_COMPLAINT_PERIOD_S
            )
            return
        self._publisher.publish(picture)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node; see `run` for the arguments and the exit code."""
    return run(NODE_NAME, MaskToImage, argv)


if __name__ == "__main__":
    sys.exit(main())
