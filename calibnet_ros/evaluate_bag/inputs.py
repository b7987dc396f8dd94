"""Which topics of a recording to evaluate."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from calibnet_core.data.bags import BagError, RgbdBag, open_rgbd_bag
from calibnet_ros.camera_presets import PRESETS


@dataclass(frozen=True, kw_only=True)
class Topics:
    """Where to look; what is empty is left to the preset, and then to what was recorded.

    Attributes:
        camera: a name of `camera_presets.PRESETS`, or empty.
        color, depth, info: topics that win over the preset.
    """

    camera: str = ""
    color: str = ""
    depth: str = ""
    info: str = ""


def open_recording(path: str | Path, topics: Topics) -> RgbdBag:
    """Open a recording at the preset's topics if it has them, else at what looks like them.

    A raw topic's name stands for the compressed one below it where only that was recorded.

    Raises:
        BagError: there is no readable recording, or the topics are absent or ambiguous.
    """
    if topics.camera:
        preset = PRESETS[topics.camera]
        color = topics.color or _absolute(preset.color)
        depth = topics.depth or _absolute(preset.depth)
        for info in (topics.info or _absolute(preset.info), topics.info):
            # What else may be wrong is said by the last attempt, below.
            with suppress(BagError):
                return _open(path, color, depth, info)
    return _open(path, topics.color, topics.depth, topics.info)


def _open(path: str | Path, color: str, depth: str, info: str) -> RgbdBag:
    return open_rgbd_bag(
        path, color_topic=color or None, depth_topic=depth or None, info_topic=info or None
    )


def _absolute(topic: str) -> str:
    """A relative name as it is recorded where the node has no namespace."""
    return topic if topic.startswith("/") else f"/{topic}"
