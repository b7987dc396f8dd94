"""The files for RViz, Foxglove and Nav2 name topics that the node really offers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.support.shared import REPOSITORY

pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from calibnet_ros import qos
from calibnet_ros.messages import LATCHED_OUTPUTS, LEFT_OUT, OUTPUTS

CONFIG = REPOSITORY / "config"
NODE = "/calibnet/"
PROFILES: dict[str, QoSProfile] = {
    f"{NODE}{output.name}": output.profile for output in (*OUTPUTS, *LATCHED_OUTPUTS)
} | {f"{NODE}instances": qos.RESULT}
TOPICS = {*PROFILES, *(f"{NODE}{entry.name}" for entry in LEFT_OUT), "/diagnostics"}


def texts(tree: Any) -> Iterator[str]:
    """All keys and values that are text."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from texts(key)
            yield from texts(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from texts(value)
    elif isinstance(tree, str):
        yield tree


def displays() -> list[dict[str, Any]]:
    file = yaml.safe_load((CONFIG / "perception.rviz").read_text())
    assert file["Visualization Manager"]["Global Options"]["Fixed Frame"] == (
        "camera_color_optical_frame"
    )
    return list(file["Visualization Manager"]["Displays"])


def test_rviz_shows_overlay_objects_points_and_frames() -> None:
    shown = {display["Class"].partition("/")[2]: display for display in reversed(displays())}
    topics = {kind: d["Topic"]["Value"] for kind, d in shown.items() if "Topic" in d}
    assert topics == {
        "Image": "/calibnet/overlay",
        "MarkerArray": "/calibnet/markers",
        "PointCloud2": "/calibnet/points",
    }
    assert all(shown[kind]["Enabled"] for kind in (*topics, "TF"))


def test_every_display_of_rviz_can_hear_its_topic() -> None:
    for display in displays():
        if "Topic" not in display:
            continue
        topic = display["Topic"]
        profile = PROFILES[topic["Value"]]
        asks_for_all = topic["Reliability Policy"] == "Reliable"
        assert not asks_for_all or profile.reliability == ReliabilityPolicy.RELIABLE, topic
        asks_for_old = topic["Durability Policy"] != "Volatile"
        assert not asks_for_old or profile.durability == DurabilityPolicy.TRANSIENT_LOCAL, topic
        assert display["Enabled"] == display["Value"], "RViz takes Value for Enabled"


def test_foxglove_names_only_topics_of_the_node_and_places_every_panel() -> None:
    file = json.loads((CONFIG / "foxglove_layout.json").read_text())
    named = {text for text in texts(file["configById"]) if text.startswith("/")}
    assert named <= TOPICS
    for topic in ("overlay", "image_annotations", "markers", "points", "instances"):
        assert f"{NODE}{topic}" in named
    assert "/diagnostics" in named
    placed = list(leaves(file["layout"]))
    assert sorted(placed) == sorted(file["configById"])


def leaves(layout: Any) -> Iterator[str]:
    if isinstance(layout, str):
        yield layout
    else:
        yield from leaves(layout["first"])
        yield from leaves(layout["second"])


def test_the_costmap_reads_the_saliency_topics_and_knows_their_classes() -> None:
    file = yaml.safe_load((CONFIG / "nav2_semantic_costmap.yaml").read_text())
    parameters = file["local_costmap"]["local_costmap"]["ros__parameters"]
    assert set(parameters["plugins"]) <= set(parameters)
    camera = parameters["salient_layer"]["camera"]
    assert camera["segmentation_topic"] == f"{NODE}saliency/mask"
    assert camera["confidence_topic"] == f"{NODE}saliency/confidence"
    assert camera["labels_topic"] == f"{NODE}saliency/label_info"
    assert {name for name in texts(parameters) if name.startswith(NODE)} <= TOPICS
    # The layer wants a point for each pixel, which ~/points does not have.
    assert camera["pointcloud_topic"] not in TOPICS
    classes = {name: camera[name]["classes"] for name in camera["class_types"]}
    assert classes == {"free": ["background"], "object": ["salient"]}
    assert parameters["salient_obstacles"]["objects"]["topic"] == f"{NODE}points"
