from __future__ import annotations

import array
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from calibnet_ros.msg import InstanceMask, InstanceMaskArray
from sensor_msgs.msg import Image, RegionOfInterest

from calibnet_core.perception.mask_codec import MaskEncoding, encode_mask
from calibnet_ros import qos
from calibnet_ros.consumers.mask_to_image import NODE_NAME, Selection, mask_image
from tests.support.ros import time_msg

if TYPE_CHECKING:
    from tests.calibnet_ros.consumers.bench import Bench

MODULE = "calibnet_ros.consumers.mask_to_image"
SIZE = (6, 10)
# Ids, tracks and boxes of three objects, best first; the last has no track.
OBJECTS = ((1, 7, (0, 0, 2, 3)), (2, 5, (1, 4, 3, 9)), (3, 0, (4, 0, 6, 10)))


def seen(stamp_ns: int = 5, encoding: MaskEncoding = MaskEncoding.BITS) -> InstanceMaskArray:
    msg = InstanceMaskArray(height=SIZE[0], width=SIZE[1])
    msg.header.stamp, msg.header.frame_id = time_msg(stamp_ns), "camera"
    for instance_id, track_id, (top, left, bottom, right) in OBJECTS:
        inside = np.ones((bottom - top, right - left), np.bool_)
        msg.instances.append(
            InstanceMask(
                instance_id=instance_id,
                track_id=track_id,
                roi=RegionOfInterest(
                    x_offset=left, y_offset=top, height=bottom - top, width=right - left
                ),
                mask_encoding=int(encoding),
                mask_data=array.array("B", encode_mask(inside, encoding)),
            )
        )
    return msg


def picture_of(index: int | None) -> NDArray[np.uint8]:
    picture = np.zeros(SIZE, np.uint8)
    if index is not None:
        top, left, bottom, right = OBJECTS[index][2]
        picture[top:bottom, left:right] = 255
    return picture


def pixels(msg: Image) -> NDArray[np.uint8]:
    assert (msg.encoding, msg.step, msg.is_bigendian) == ("mono8", msg.width, 0)
    return np.frombuffer(msg.data, np.uint8).reshape(msg.height, msg.width)


@pytest.mark.parametrize(
    ("selection", "index"),
    [
        (Selection(), 0),
        (Selection(instance_id=2), 1),
        (Selection(track_id=5), 1),
        (Selection(instance_id=4), None),
        (Selection(track_id=1), None),
    ],
)
def test_the_chosen_object_is_white_and_an_absent_one_leaves_black(
    selection: Selection, index: int | None
) -> None:
    picture = mask_image(seen(stamp_ns=1_500_000_007), selection)
    np.testing.assert_array_equal(pixels(picture), picture_of(index))
    assert picture.header.frame_id == "camera"
    assert (picture.header.stamp.sec, picture.header.stamp.nanosec) == (1, 500_000_007)


def test_an_empty_message_gives_a_black_picture() -> None:
    empty = InstanceMaskArray(height=SIZE[0], width=SIZE[1])
    np.testing.assert_array_equal(pixels(mask_image(empty, Selection())), picture_of(None))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"instance_id": 65535}, "choose 0 to 65534"),
        ({"track_id": -1}, "choose 0 or more"),
        ({"instance_id": 1, "track_id": 1}, "set one of them back to 0"),
    ],
)
def test_a_selection_that_makes_no_sense_is_refused(values: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Selection(**values)


@pytest.mark.ros
def test_the_node_shows_what_its_parameters_say_and_nothing_for_bad_masks(
    start: Callable[..., Bench],
) -> None:
    bench = start(MODULE, NODE_NAME, track_id=5)
    pictures = bench.listen(Image, "mask", qos.own(qos.PICTURE))

    def shown(msg: InstanceMaskArray) -> NDArray[np.uint8] | None:
        bench.instances.publish(msg)
        return next((pixels(p) for p in list(pictures) if p.header == msg.header), None)

    def show(stamp_ns: int) -> NDArray[np.uint8]:
        """The picture for a frame, which is sent until both connections stand."""
        msg = seen(stamp_ns)
        bench.wait_for(lambda: shown(msg) is not None, "a picture")
        picture = shown(msg)
        assert picture is not None
        return picture

    np.testing.assert_array_equal(show(1), picture_of(1))
    assert "set one of them back" in bench.set_parameter("instance_id", 3).reason
    assert bench.set_parameter("track_id", 0).successful
    assert bench.set_parameter("instance_id", 3).successful
    np.testing.assert_array_equal(show(2), picture_of(2))

    broken = seen(stamp_ns=3)
    broken.instances[2].mask_data.pop()
    bench.instances.publish(broken)
    bench.process.wait_for_line("published no mask", "takes 4 bytes, not 3")
    # The next sound message has an answer, and the broken one had none.
    np.testing.assert_array_equal(show(4), picture_of(2))
    assert not [p for p in pictures if p.header.stamp.nanosec == 3]
    bench.process.send(signal.SIGINT)
    assert bench.process.exit_code(2.0) == 0
