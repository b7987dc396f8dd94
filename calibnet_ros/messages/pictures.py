"""Everything that travels as an image."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image

from calibnet_core.perception.mask_codec import label_image
from calibnet_core.perception.perceiver import Perception
from calibnet_core.perception.surface import confidence_pixels, masked_depth, salient_pixels
from calibnet_core.visualization import draw_perception
from calibnet_ros.messages.fields import array_to_image, compressed_image, header_of
from calibnet_ros.messages.options import DEFAULTS, OutputOptions

# As compressed_image_transport writes them: encoding of the image, codec, then for colour the
# encoding inside; without colour the text ends in a blank. Its subscriber, and so RViz, reads them.
_PNG_FORMAT = "mono16; png compressed "
_JPEG_FORMAT = "rgb8; jpeg compressed bgr8"


def label_image_to_msg(perception: Perception, options: OutputOptions = DEFAULTS) -> Image:
    """Ids of all instances in one mono16 image; where masks overlap, the better score wins."""
    header = header_of(perception.frame)
    return array_to_image(label_image(perception.instances.masks), "mono16", header)


def label_png_to_msg(perception: Perception, options: OutputOptions = DEFAULTS) -> CompressedImage:
    """The label image as 16-bit PNG. There is no JPEG of it: that would invent ids."""
    pixels = label_image(perception.instances.masks)
    data = _encoded(".png", pixels, cv2.IMWRITE_PNG_COMPRESSION, options.png_level)
    return compressed_image(data, _PNG_FORMAT, header_of(perception.frame))


def saliency_mask_to_msg(perception: Perception, options: OutputOptions = DEFAULTS) -> Image:
    """Class of each pixel as mono8: 0 background, 1 salient object.

    The values are class ids, not grey levels, as the Nav2 semantic costmap layer takes them and
    vision_msgs' LabelInfo names them; 255 would there be the class "unlabelled".
    """
    return array_to_image(salient_pixels(perception), "mono8", header_of(perception.frame))


def confidence_to_msg(perception: Perception, options: OutputOptions = DEFAULTS) -> Image:
    """Best score of the objects on each pixel as mono8, 0..255; 0 on the background."""
    return array_to_image(confidence_pixels(perception), "mono8", header_of(perception.frame))


def masked_depth_to_msg(perception: Perception, options: OutputOptions = DEFAULTS) -> Image | None:
    """Depth of the objects alone or of all but them, encoded as it came; None without depth."""
    pixels = masked_depth(perception, options.masked_depth)
    if pixels is None:
        return None
    return array_to_image(pixels, perception.depth_encoding, header_of(perception.frame))


def overlay_to_msg(perception: Perception, options: OutputOptions = DEFAULTS) -> Image:
    """Masks, boxes, ids, scores and distances drawn over the colour image, rgb8."""
    return array_to_image(draw_perception(perception), "rgb8", header_of(perception.frame))


def overlay_jpeg_to_msg(
    perception: Perception, options: OutputOptions = DEFAULTS
) -> CompressedImage:
    """The overlay as JPEG."""
    pixels = draw_perception(perception)[..., ::-1]
    data = _encoded(".jpg", pixels, cv2.IMWRITE_JPEG_QUALITY, options.jpeg_quality)
    return compressed_image(data, _JPEG_FORMAT, header_of(perception.frame))


def _encoded(kind: str, pixels: NDArray[Any], setting: int, value: int) -> bytes:
    _, data = cv2.imencode(kind, np.ascontiguousarray(pixels), [setting, int(value)])
    return data.tobytes()
