"""Which topics of a recording are evaluated."""

from __future__ import annotations

from pathlib import Path

import pytest

from calibnet_core.data.bags import BagError
from calibnet_ros.evaluate_bag.inputs import Topics, open_recording
from tests.calibnet_ros.evaluate_bag.recordings import TOPICS, write_recording

pytestmark = pytest.mark.ros

COMPRESSED = {"color_transport": "compressed", "depth_transport": "compressedDepth"}
ELSEWHERE = {name: topic.replace("/camera/camera", "/arm") for name, topic in TOPICS.items()}


@pytest.mark.parametrize("camera", ["", "realsense"])
def test_the_presets_topics_stand_for_the_compressed_ones_below_them(
    frames, tmp_path: Path, camera: str
) -> None:
    path = write_recording(tmp_path / "bag", frames[:1], **COMPRESSED)
    bag = open_recording(path, Topics(camera=camera))
    assert bag.color_topic == TOPICS["color_topic"] + "/compressed"
    assert bag.depth_topic == TOPICS["depth_topic"] + "/compressedDepth"
    assert bag.info_topic == "/camera/camera/color/camera_info"
    assert (bag.color_transport, bag.depth_transport) == ("compressed", "compressedDepth")


def test_without_the_presets_topics_what_was_recorded_is_taken(frames, tmp_path: Path) -> None:
    path = write_recording(tmp_path / "bag", frames[:1], **ELSEWHERE)
    bag = open_recording(path, Topics(camera="realsense"))
    assert (bag.color_topic, bag.info_topic) == (ELSEWHERE["color_topic"], "/arm/color/camera_info")
    with pytest.raises(BagError, match="color_topic '/nowhere' is not in the recording"):
        open_recording(path, Topics(camera="realsense", color="/nowhere"))
