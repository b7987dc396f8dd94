"""The recording's own labels in place of a network: worked cases."""

from __future__ import annotations

import sys

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from calibnet_core.data.bags import write_rgbd_bag
from calibnet_core.structures import RgbdFrame
from calibnet_ros import demo_node
from calibnet_ros.demo_node import KnownAnswers
from calibnet_ros.parameter_schema import DEFAULTS

pytestmark = pytest.mark.ros

STAMP_NS = 1_700_000_000_000_000_000
LABELS = np.array([[0, 2, 2, 0], [7, 7, 0, 0], [7, 0, 0, 500]], np.uint16)


def frame_at(stamp_ns: int, size: tuple[int, int] = (3, 4)) -> RgbdFrame:
    return RgbdFrame(
        rgb=np.zeros((*size, 3), np.uint8), depth_m=np.ones(size, np.float32), stamp_ns=stamp_ns
    )


def answers_to(*frames: RgbdFrame, labels: dict[int, np.ndarray] | None = None):
    known = KnownAnswers({STAMP_NS: LABELS} if labels is None else labels, DEFAULTS)
    return known.predict_batch(frames)[0]


def test_each_object_of_the_label_image_is_an_instance_of_full_score() -> None:
    (instances,) = answers_to(frame_at(STAMP_NS))
    assert len(instances) == 3
    # By ascending label, each whole and apart from the others.
    for mask, label in zip(instances.masks, (2, 7, 500), strict=True):
        np.testing.assert_array_equal(mask, label == LABELS)
    np.testing.assert_array_equal(instances.scores, np.ones(3, np.float32))
    np.testing.assert_array_equal(instances.boxes_xyxy[0], [1, 0, 3, 1])


def test_frames_of_a_batch_are_answered_in_order_each_by_its_stamp() -> None:
    other = np.full((3, 4), 1, np.uint16)
    labels = {STAMP_NS: LABELS, STAMP_NS + 1: other}
    counts = [len(i) for i in answers_to(frame_at(STAMP_NS + 1), frame_at(STAMP_NS), labels=labels)]
    assert counts == [1, 3]
    assert answers_to() == []


@pytest.mark.parametrize(
    ("frame", "labels"),
    [
        (frame_at(STAMP_NS + 1), {STAMP_NS: LABELS}),
        (frame_at(STAMP_NS, (6, 8)), {STAMP_NS: LABELS}),
        (frame_at(STAMP_NS), {STAMP_NS: np.zeros((3, 4), np.uint16)}),
        (frame_at(STAMP_NS), {}),
    ],
    ids=["another stamp", "another size", "nothing but background", "no labels"],
)
def test_without_labels_there_is_no_object(frame: RgbdFrame, labels: dict) -> None:
    (instances,) = answers_to(frame, labels=labels)
    assert len(instances) == 0
    assert instances.masks.shape == (0, *frame.size)


def test_the_node_gets_the_labels_of_the_recording_it_is_given(tmp_path, monkeypatch) -> None:
    frame = frame_at(STAMP_NS)
    write_rgbd_bag(tmp_path / "bag", [frame], labels=[LABELS])
    started = {}

    def start(arguments, *, make_pipeline):
        started["arguments"], started["pipeline"] = arguments, make_pipeline(DEFAULTS)
        return 3

    monkeypatch.setattr(demo_node.command, "main", start)
    arguments = [str(tmp_path / "bag"), "--ros-args", "-r", "a:=b"]
    monkeypatch.setattr(sys, "argv", ["demo_node", *arguments])
    assert demo_node.main() == 3
    assert started["arguments"] == arguments[1:]
    predictor = started["pipeline"]
    assert predictor.model_info.model_id == "known_answers-00000000"
    (instances,), timings = predictor.predict_batch([frame])
    assert len(instances) == 3
    assert timings.inference_ms == 0.0
