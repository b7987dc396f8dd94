"""Topics of camera drivers."""

from __future__ import annotations

import pytest

from calibnet_ros.camera_presets import PRESETS, remappings

INPUTS = ("color/image", "depth/image", "color/camera_info", "depth/camera_info")


@pytest.mark.parametrize("camera", PRESETS)
def test_a_preset_names_every_input(camera):
    rules = remappings(camera)
    assert [name for name, _ in rules] == list(INPUTS)
    assert all(topic and "//" not in topic for _, topic in rules)
    colors = dict(rules)
    assert colors["color/image"] != colors["depth/image"]


def test_the_topics_of_the_realsense_driver_are_as_it_publishes_them():
    assert remappings("realsense") == [
        ("color/image", "/camera/camera/color/image_raw"),
        ("depth/image", "/camera/camera/aligned_depth_to_color/image_raw"),
        ("color/camera_info", "/camera/camera/color/camera_info"),
        ("depth/camera_info", "/camera/camera/aligned_depth_to_color/camera_info"),
    ]


@pytest.mark.parametrize("namespace", ["/left", "/left/", "left"])
@pytest.mark.parametrize("camera", PRESETS)
def test_a_namespace_goes_in_front_of_every_topic(camera, namespace):
    plain, prefixed = dict(remappings(camera)), remappings(camera, camera_namespace=namespace)
    front = namespace.rstrip("/")
    assert prefixed == [(name, f"{front}/{plain[name].lstrip('/')}") for name in INPUTS]


def test_given_topics_win_over_the_preset_and_need_none():
    rules = dict(remappings("realsense", camera_namespace="/left", depth_topic="/my/depth"))
    assert rules["depth/image"] == "/my/depth"
    assert rules["color/image"] == "/left/camera/camera/color/image_raw"
    assert remappings("", color_topic="/c", info_topic="/i") == [
        ("color/image", "/c"),
        ("color/camera_info", "/i"),
    ]
    assert remappings("") == []


def test_in_a_node_with_several_cameras_each_input_bears_the_name():
    rules = remappings("realsense", name="front", camera_namespace="/left", info_topic="/info")
    assert rules == [
        ("front/color/image", "/left/camera/camera/color/image_raw"),
        ("front/depth/image", "/left/camera/camera/aligned_depth_to_color/image_raw"),
        ("front/color/camera_info", "/info"),
        ("front/depth/camera_info", "/left/camera/camera/aligned_depth_to_color/camera_info"),
    ]


def test_an_unknown_camera_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown camera 'kinect'.*realsense.*generic"):
        remappings("kinect")
