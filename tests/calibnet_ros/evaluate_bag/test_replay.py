"""A recording answered as the node would, and every message accounted for."""

from __future__ import annotations

import contextlib
import itertools
import math
import sqlite3
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from calibnet_core.data.bags import BagError, RgbdBag, open_rgbd_bag
from calibnet_core.perception.accounting import DropReason
from calibnet_core.perception.geometry import GeometryStatus
from calibnet_core.perception.mask_codec import MaskEncoding, decode_mask
from calibnet_core.structures import NonFiniteOutputError
from calibnet_ros.evaluate_bag import Replay, evaluate_recording
from calibnet_ros.parameter_schema import DEFAULTS
from tests.calibnet_ros.evaluate_bag.recordings import (
    PERIOD_NS,
    SIZE,
    START_NS,
    TOPICS,
    make_stub,
    write_recording,
)
from tests.support.stub_predictor import StubPredictor

pytestmark = pytest.mark.ros

INFO = "/camera/camera/color/camera_info"
VALUES = {**DEFAULTS, "detection.min_area": 4, "geometry.min_points": 5, "geometry.erode": 0}


def test_every_pair_is_answered_with_its_masks_stamp_and_track(recording, frames) -> None:
    answers = list(evaluate_recording(open_rgbd_bag(recording), make_stub(VALUES), VALUES))
    assert [answer.account.sequence for answer in answers] == [1, 2, 3, 4, 5]
    track_of: dict[int, int] = {}
    for answer, (frame, label) in zip(answers, frames, strict=True):
        messages = dict(answer.messages())
        result = messages["instances"]
        stamp = result.header.stamp.sec * 10**9 + result.header.stamp.nanosec
        assert stamp == frame.stamp_ns
        assert result.depth_offset.nanosec == 4_000_000
        assert math.isnan(result.age_ms)
        assert math.isnan(result.inference_ms)
        assert np.array_equal(
            np.frombuffer(messages["label_image"].data, np.uint16).reshape(SIZE) > 0, label > 0
        )
        for instance in result.instances:
            roi = instance.roi
            mask = decode_mask(instance.mask_data, roi.height, roi.width, MaskEncoding.BITS)
            inside = label[
                roi.y_offset : roi.y_offset + roi.height, roi.x_offset : roi.x_offset + roi.width
            ]
            (number,) = set(inside[mask].tolist())
            assert mask.sum() == (label == number).sum()
            assert track_of.setdefault(number, instance.track_id) == instance.track_id
    assert sorted(track_of) == [1, 2, 3, 4]


class LateInfo(RgbdBag):
    """A recording whose CameraInfo comes after all images."""

    def messages(self):
        found = list(super().messages())
        yield from sorted(found, key=lambda message: message.kind == "info")


def reopened(path: Path, kind: type[RgbdBag]) -> RgbdBag:
    bag = open_rgbd_bag(path)
    return kind(**{field.name: getattr(bag, field.name) for field in fields(bag)})


def test_images_before_the_first_camera_info_are_located(recording: Path) -> None:
    replay = Replay(reopened(recording, LateInfo), make_stub(VALUES), VALUES)
    statuses = {g.status for answer in replay.answers() for g in answer.perception.geometry}
    assert statuses == {GeometryStatus.OK}
    assert replay.num_infos == 5


def test_what_waits_at_the_end_stays_waiting(tmp_path: Path, frames) -> None:
    # Depth is nearly half a period late: a nearer one could still come until the next has come.
    path = write_recording(tmp_path / "bag", frames, depth_offset_ns=-PERIOD_NS * 55 // 100)
    replay = Replay(open_rgbd_bag(path), make_stub(VALUES), VALUES)
    answers = list(replay.answers())
    counts = replay.counts()
    assert counts.published == len(answers) < len(frames)
    assert counts.waiting_color > 0
    assert counts.received_color == counts.received_depth == len(frames)


class Moody(StubPredictor):
    """Fails on the second frame and answers NaN on the third."""

    def predict_frame(self, frame, settings, scale):
        number = round((frame.stamp_ns - START_NS) / PERIOD_NS)
        if number == 1:
            raise RuntimeError("no mood")
        if number == 2:
            raise NonFiniteOutputError("the network answered NaN")
        return super().predict_frame(frame, settings, scale)


def test_a_failing_network_costs_its_pair_and_is_said_once(recording) -> None:
    replay = Replay(open_rgbd_bag(recording), Moody(), VALUES)
    assert [answer.account.sequence for answer in replay.answers()] == [1, 2, 3]
    counts = replay.counts()
    assert counts.dropped_pairs == {DropReason.INFERENCE_ERROR: 1, DropReason.NOT_FINITE: 1}
    assert replay.notes == ["pair dropped: no mood", "pair dropped: the network answered NaN"]


class CutOff(LateInfo):
    """A recording that cannot be read beyond its first three pairs."""

    def messages(self):
        yield from itertools.islice(super().messages(), 6)
        raise BagError(f"{self.path}: is damaged; save what is left of it")


def test_a_recording_that_was_cut_off_is_answered_as_far_as_it_goes(recording: Path) -> None:
    replay = Replay(reopened(recording, CutOff), make_stub(VALUES), VALUES)
    assert len(list(replay.answers())) == replay.counts().published == 3
    assert replay.damage == "tabletop: is damaged; save what is left of it"


def test_damaged_messages_are_counted_and_the_others_answered(tmp_path: Path, frames) -> None:
    path = write_recording(tmp_path / "bag", frames, storage="sqlite3")
    (file,) = path.glob("*.db3")
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        # The second colour image, the third depth image, the first CameraInfo of colour.
        for number, topic in ((1, TOPICS["color_topic"]), (2, TOPICS["depth_topic"]), (0, INFO)):
            query = (
                "SELECT messages.id FROM messages JOIN topics ON topics.id = topic_id "
                "WHERE name = ? ORDER BY timestamp LIMIT 1 OFFSET ?"
            )
            ((row,),) = database.execute(query, (topic, number))
            database.execute("UPDATE messages SET data = substr(data, 1, 90) WHERE id = ?", (row,))
    replay = Replay(open_rgbd_bag(path), make_stub(VALUES), VALUES)
    assert len(list(replay.answers())) == 3
    counts = replay.counts()
    assert counts.dropped_color[DropReason.DECODE_ERROR] == 1
    assert counts.dropped_depth[DropReason.DECODE_ERROR] == 1
    assert replay.num_infos == 5
    assert "color dropped: the message is cut off or damaged" in replay.notes


COMPRESSED = {"color_transport": "compressed", "depth_transport": "compressedDepth"}


@pytest.mark.parametrize("depth_codec", ["png", "rvl"])
def test_a_compressed_recording_gives_the_answers_of_the_raw_one(
    tmp_path: Path, recording: Path, frames, depth_codec: str
) -> None:
    options = {**COMPRESSED, "color_codec": "png", "depth_codec": depth_codec}
    path = write_recording(tmp_path / "bag", frames, depth_offset_ns=4_000_000, **options)
    replay = Replay(open_rgbd_bag(path), make_stub(VALUES), VALUES)
    answers = [dict(answer.messages()) for answer in replay.answers()]
    raw = [
        dict(answer.messages())
        for answer in evaluate_recording(open_rgbd_bag(recording), make_stub(VALUES), VALUES)
    ]
    # As text: NaN equals nothing.
    assert [repr(messages) for messages in answers] == [repr(messages) for messages in raw]
    assert replay.notes == [
        f"colour was read from {TOPICS['color_topic']}/compressed (compressed), as it was "
        "recorded; input.color_transport is raw, which holds for the node alone",
        f"depth was read from {TOPICS['depth_topic']}/compressedDepth (compressedDepth), as it was "
        "recorded; input.depth_transport is raw, which holds for the node alone",
    ]


def test_nothing_is_noted_where_parameters_and_recording_agree(tmp_path: Path, frames) -> None:
    path = write_recording(tmp_path / "bag", frames[:1], **COMPRESSED)
    agreeing = {f"input.{name}": transport for name, transport in COMPRESSED.items()}
    replay = Replay(open_rgbd_bag(path), make_stub(VALUES), {**VALUES, **agreeing})
    assert len(list(replay.answers())) == 1
    assert replay.notes == []


def test_compressed_images_that_are_damaged_cost_their_pairs(tmp_path: Path, frames) -> None:
    # Of JPEG much damage shows in the picture alone.
    options = {**COMPRESSED, "color_codec": "png", "storage": "sqlite3"}
    path = write_recording(tmp_path / "bag", frames, **options)
    spoil(path, TOPICS["color_topic"] + "/compressed", 1)
    spoil(path, TOPICS["depth_topic"] + "/compressedDepth", 3)
    replay = Replay(open_rgbd_bag(path), make_stub(VALUES), VALUES)
    assert len(list(replay.answers())) == 3
    assert replay.counts().dropped_pairs == {DropReason.DECODE_ERROR: 2}
    assert any("the compressed colour image is damaged" in note for note in replay.notes)


def spoil(path: Path, topic: str, number: int) -> None:
    """Fill the second half of a message with zeros, so that it is a message still."""
    (file,) = path.glob("*.db3")
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        query = (
            "SELECT messages.id, data FROM messages JOIN topics ON topics.id = topic_id "
            "WHERE name = ? ORDER BY timestamp LIMIT 1 OFFSET ?"
        )
        ((row, data),) = database.execute(query, (topic, number))
        spoilt = data[: len(data) // 2].ljust(len(data), b"\0")
        database.execute("UPDATE messages SET data = ? WHERE id = ?", (spoilt, row))
