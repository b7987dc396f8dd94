from __future__ import annotations

import array

import numpy as np
import pytest

pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from calibnet_ros.msg import InstanceMask
from sensor_msgs.msg import RegionOfInterest

from calibnet_core.perception.mask_codec import MaskEncoding, MaskFormatError, encode_mask
from calibnet_ros.consumers.masks import full_mask

INSIDE = np.array([[True, False, True], [False, True, True]])


def instance(encoding: int = MaskEncoding.BITS, **roi: int) -> InstanceMask:
    """INSIDE with its first pixel at column 4, row 1, unless told otherwise."""
    box = {"x_offset": 4, "y_offset": 1, "height": 2, "width": 3, **roi}
    data = encode_mask(INSIDE, MaskEncoding(encoding))
    return InstanceMask(
        roi=RegionOfInterest(**box), mask_encoding=int(encoding), mask_data=array.array("B", data)
    )


@pytest.mark.parametrize("encoding", [MaskEncoding.BITS, MaskEncoding.MONO8, MaskEncoding.RLE])
def test_a_mask_lands_in_its_box_and_nowhere_else(encoding: MaskEncoding) -> None:
    expected = np.zeros((5, 8), np.bool_)
    expected[1:3, 4:7] = INSIDE
    np.testing.assert_array_equal(full_mask(instance(encoding), 5, 8), expected)
    # The box may end exactly at the image's border.
    np.testing.assert_array_equal(full_mask(instance(encoding), 3, 7), expected[:3, :7])


@pytest.mark.parametrize(("height", "width"), [(2, 8), (5, 6)])
def test_a_box_that_leaves_the_image_is_refused(height: int, width: int) -> None:
    with pytest.raises(MaskFormatError, match=rf"roi at \(4, 1\).* height {height}, width {width}"):
        full_mask(instance(), height, width)


def test_hostile_sizes_are_refused_before_memory_is_taken() -> None:
    for height, width in ((0, 8), (2**31, 2**31)):
        with pytest.raises(MaskFormatError, match=f"height {height}, width {width} is refused"):
            full_mask(instance(), height, width)
    with pytest.raises(MaskFormatError, match="height 0, width 3 is refused"):
        full_mask(instance(height=0), 5, 8)


def test_a_mask_without_pixels_names_the_parameter_that_brings_them() -> None:
    with pytest.raises(MaskFormatError, match=r"set output\.mask_encoding to bits"):
        full_mask(instance(MaskEncoding.NONE), 5, 8)
