"""Label images that a recording holds beside the camera's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibnet_core.data.bags.reading import decode, messages_on
from calibnet_core.data.bags.topics import IMAGE, BagError
from calibnet_core.data.bags.writing import LABEL_TOPIC
from calibnet_core.perception.image_codec import ImageFormatError
from calibnet_core.perception.received_image import header_stamp_ns, pixels_of


def read_labels(
    path: str | Path, topic: str = LABEL_TOPIC
) -> Iterator[tuple[int, NDArray[np.uint16]]]:
    """Yield stamps in nanoseconds with (H, W) uint16 images: 0 background, k object k.

    Raises:
        BagError: the recording is damaged, has no such topic, or it holds something else.
    """
    count = 0
    for cdr in messages_on(Path(path), topic, IMAGE):
        image = decode(cdr, IMAGE)
        if image is None:
            raise BagError(f"{path}: a label image on '{topic}' is damaged or cut off")
        try:
            pixels = pixels_of(image)
        except ImageFormatError as error:
            raise BagError(f"{path}: a label image on '{topic}' is damaged ({error})") from error
        if pixels.ndim != 2 or pixels.dtype.kind != "u":
            raise BagError(f"{path}: '{topic}' holds {image.encoding}; expected mono16 labels")
        count += 1
        yield header_stamp_ns(image.header), pixels.astype(np.uint16)
    if not count:
        raise BagError(f"{path}: has no label images on '{topic}'; name the topic that holds them")
