"""The rule for what counts as an object in a rendered picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FARTHEST_M = 4.0
SMALLEST_SHARE = 0.0007
"""Of the picture: 54 pixels at 320x240."""


def salient_labels(labels: NDArray[np.int32], depth_m: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Leave only the objects that stand out to a robot.

    The rule: whatever can be taken away stands out, if enough of it is seen from near enough.
    Floor, walls, furniture and sheets that lie flat belong to the room and do not. A thing counts
    where it covers at least `SMALLEST_SHARE` of the picture and its median depth is at most
    `FARTHEST_M`.

    Args:
        labels: (H, W) of the things that can be taken away, 0 for the room.
        depth_m: (H, W) exact metres.

    Returns:
        (H, W) uint16: the labels of those that count, and 0 elsewhere.
    """
    counts = np.bincount(labels.ravel())
    counts[0] = 0
    stays = np.zeros(counts.size, np.uint16)
    for label in np.flatnonzero(counts >= max(1.0, SMALLEST_SHARE * labels.size)):
        if np.nanmedian(depth_m[labels == label]) <= FARTHEST_M:
            stays[label] = label
    return np.asarray(stays[labels])
