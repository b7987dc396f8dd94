"""Topics are found by preset, by name and by type."""

from __future__ import annotations

import pytest

from calibnet_ros.camera_presets import PRESETS
from calibnet_ros.doctor.choosing import choose, matches
from calibnet_ros.doctor.facts import CAMERA_INFO, COMPRESSED_IMAGE, Request, TopicFacts
from tests.calibnet_ros.doctor.sound import topic


def driver(camera: str, namespace: str = "") -> list[TopicFacts]:
    """What the driver of a preset publishes."""
    preset = PRESETS[camera]
    names = [f"{namespace}/{name.lstrip('/')}" for name in (preset.color, preset.depth)]
    infos = {f"{namespace}/{name.lstrip('/')}" for name in (preset.info, preset.depth_info)}
    return [*map(topic, names), *(topic(name, CAMERA_INFO) for name in sorted(infos))]


@pytest.mark.parametrize("namespace", ["", "/robot1"])
@pytest.mark.parametrize("camera", PRESETS)
def test_every_preset_is_recognised_by_its_topics_in_any_namespace(
    camera: str, namespace: str
) -> None:
    choice = choose(driver(camera, namespace), Request())
    assert (choice.camera, choice.camera_namespace) == (camera, namespace)
    assert choice.color == f"{namespace}/{PRESETS[camera].color.lstrip('/')}"
    assert choice.depth == f"{namespace}/{PRESETS[camera].depth.lstrip('/')}"
    assert choice.info == f"{namespace}/{PRESETS[camera].info.lstrip('/')}"
    assert choice.rivals == ()


def test_a_second_camera_is_named_as_a_rival() -> None:
    choice = choose(driver("realsense") + driver("azure_kinect"), Request())
    assert choice.camera == "realsense"
    assert choice.rivals == ("/rgb/image_raw",)


def test_topics_of_no_preset_are_chosen_by_their_names_and_never_infrared_or_results() -> None:
    names = ["/cam/infra1/image_raw", "/calibnet/overlay", "/calibnet/label_image"]
    names += ["/cam/depth/image", "/cam/depth_registered/image", "/cam/color/image", "/cam/debug"]
    choice = choose([*map(topic, names), topic("/cam/color/camera_info", CAMERA_INFO)], Request())
    assert (choice.color, choice.depth) == ("/cam/color/image", "/cam/depth_registered/image")
    assert (choice.info, choice.depth_info) == ("/cam/color/camera_info", "")
    assert choice.camera == ""


def test_what_was_asked_for_wins_over_every_preset() -> None:
    request = Request(color_topic="/a", depth_topic="/b", info_topic="/c")
    choice = choose(driver("realsense"), request)
    assert (choice.color, choice.depth, choice.info, choice.camera) == ("/a", "/b", "/c", "")


def test_a_preset_that_was_asked_for_is_taken_though_nobody_publishes_it() -> None:
    choice = choose(driver("realsense"), Request(camera="orbbec", camera_namespace="/left"))
    assert choice.color == "/left/camera/color/image_raw"


def test_compressed_topics_are_read_where_there_are_no_raw_ones() -> None:
    preset = PRESETS["realsense"]
    compressed = [
        topic(f"{preset.color}/compressed", COMPRESSED_IMAGE),
        topic(f"{preset.depth}/compressedDepth", COMPRESSED_IMAGE),
    ]
    choice = choose(compressed, Request())
    assert (choice.camera, choice.color_transport) == ("realsense", "compressed")
    assert choice.topic("depth") == f"{preset.depth}/compressedDepth"
    raw = choose(compressed + driver("realsense"), Request())
    assert (raw.color_transport, raw.depth_transport) == ("raw", "raw")


def test_a_topic_that_only_somebody_subscribes_to_is_no_source() -> None:
    silent = topic(PRESETS["realsense"].color, publishers=())
    assert choose([silent], Request()).color == ""
    assert matches([silent]) == []


def test_a_driver_whose_registered_depth_is_off_is_known_by_its_colour() -> None:
    (match, *_) = matches([topic(PRESETS["realsense"].color)])
    assert (match.camera, match.camera_namespace, match.has_depth) == ("realsense", "", False)
