from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from calibnet_core.perception.accounting import DropReason
from calibnet_core.perception.compressed import encode_depth
from calibnet_core.perception.intake import IntakeSettings
from calibnet_core.perception.pairing import Pair, PairerConfig
from tests.support.image_messages import camera_info, compressed
from tests.support.intake import (
    ALONE,
    DEPTH,
    MS,
    PERIOD_NS,
    RGB,
    Camera,
    color_msg,
    depth_msg,
    stamp,
)

# --- colour alone -----------------------------------------------------------------------------


def test_a_colour_image_waits_for_depth_only_until_depth_is_missed() -> None:
    camera = Camera(ALONE)  # half a second: 15 frames and a bit
    waited = []
    for index in range(30):
        camera.color(stamp(index))
        waited.append(camera.check().waiting_color)
    assert waited == [*range(1, 6), *[5] * 11, *[0] * 14]
    assert camera.stamps() == [stamp(index) for index in range(30)]
    assert all(pair.depth is None and pair.offset_ns == 0 for pair in camera.handed)
    assert camera.check().paired_without_depth == 30


def test_where_depth_is_required_none_goes_alone() -> None:
    camera = Camera(IntakeSettings(depth_timeout_s=0.5))
    for index in range(30):
        camera.color(stamp(index))
    assert camera.handed == []
    assert camera.check().dropped_color == {DropReason.NO_PARTNER: 25}
    # Allowed from now on, and long missed: the next takes along those that wait.
    camera.intake.reconfigure(ALONE)
    camera.color(stamp(30))
    assert camera.stamps() == [stamp(index) for index in range(25, 31)]


@pytest.mark.parametrize("is_depth_first", [True, False])
def test_depth_that_comes_back_is_used_again(is_depth_first) -> None:
    camera = Camera(ALONE)
    for index in range(30):
        camera.color(stamp(index))
    for index in range(30, 40):
        if is_depth_first:
            camera.depth(stamp(index))
        camera.color(stamp(index))
        if not is_depth_first:
            camera.depth(stamp(index))
    assert camera.stamps() == [stamp(index) for index in range(40)]
    has_depth = [pair.depth is not None for pair in camera.handed]
    # The depth that follows a colour image which did not wait for it comes too late.
    assert has_depth == [False] * 30 + [is_depth_first] + [True] * 9


def test_an_image_without_depth_does_not_go_after_newer_ones() -> None:
    camera = Camera(ALONE)
    for index in range(40):
        camera.color(stamp(index))
        if index % 2:
            camera.depth(stamp(index))
    # Those between are let go: handed over late, they would replace newer pairs.
    assert camera.stamps() == [stamp(index) for index in range(1, 40, 2)]
    assert all(pair.depth is not None for pair in camera.handed)
    assert set(camera.check().dropped_color) == {DropReason.NO_PARTNER}


@pytest.mark.parametrize("offset_s", [-3600, 3600])
def test_depth_on_another_clock_is_no_depth_and_colour_goes_on(offset_s) -> None:
    camera = Camera(ALONE)
    for index in range(60):
        camera.color(stamp(index))
        camera.depth(stamp(index) + offset_s * 1_000_000_000)
    assert camera.stamps() == [stamp(index) for index in range(len(camera.handed))]
    assert len(camera.handed) >= 55
    # When it falls silent, colour no longer waits for it.
    for index in range(60, 80):
        camera.color(stamp(index))
    assert camera.stamps() == [stamp(index) for index in range(80)]


@pytest.mark.parametrize("num_frames", [10, 40, 100])
@pytest.mark.parametrize("timeout_s", [0.1, 2.0])
def test_a_bag_without_depth_may_loop(num_frames, timeout_s) -> None:
    camera = Camera(replace(ALONE, depth_timeout_s=timeout_s))
    for _ in range(3):
        for index in range(num_frames):
            camera.color(stamp(index))
    jumps = [what for what in camera.listener.told if what[0] == "jump"]
    is_noticed = num_frames * PERIOD_NS > 500 * MS
    assert len(jumps) == camera.check().backward_jumps == (2 if is_noticed else 0)
    snapshot = camera.check()
    # A jump drops what waited for the abandoned future.
    assert sum(snapshot.dropped_color.values()) <= 10
    assert set(snapshot.dropped_color) <= {DropReason.RESET}
    assert len(camera.handed) >= 3 * num_frames - 15


def test_a_step_back_is_noticed_while_depth_is_missed() -> None:
    camera = Camera(ALONE)
    for index in [*range(100), *range(60, 70)]:  # someone moved the player's slider
        camera.color(stamp(index))
    assert camera.check().backward_jumps == 1
    assert camera.stamps()[:101] == [stamp(index) for index in [*range(100), 60]]


def test_a_repeated_image_is_dropped_while_depth_is_missed() -> None:
    camera = Camera(ALONE)
    for index in range(30):
        camera.color(stamp(index))
    camera.color(stamp(29))
    assert camera.check().dropped_color == {DropReason.DUPLICATE: 1}


# --- worked cases -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate_hz", "passed"),
    [
        (0.0, range(12)),
        (1e3 / 33, range(12)),  # at its own rate a camera loses nothing, whatever the jitter
        (15.0, range(0, 12, 2)),
        (10.0, range(0, 12, 3)),
        (9.0, range(0, 12, 4)),
    ],
)
def test_pairs_beyond_the_highest_rate_are_let_go(rate_hz, passed) -> None:
    camera = Camera(IntakeSettings(max_rate_hz=rate_hz))
    times = [stamp(index) + (0, 1, -1)[index % 3] * MS for index in range(12)]
    for stamp_ns in times:
        camera.color(stamp_ns)
        camera.depth(stamp_ns)
    assert camera.stamps() == [times[index] for index in passed]
    over_rate = camera.check().dropped_pairs
    assert over_rate == ({} if len(passed) == 12 else {DropReason.OVER_RATE: 12 - len(passed)})


def test_the_rate_begins_anew_after_a_jump_back() -> None:
    camera = Camera(IntakeSettings(max_rate_hz=1.0))
    for index in (100, 0, 1, 31):
        camera.color(stamp(index))
        camera.depth(stamp(index))
    assert camera.stamps() == [stamp(100), stamp(0), stamp(31)]


def test_a_changed_camera_info_is_told_once_and_holds_for_the_pairs_that_follow() -> None:
    camera = Camera(IntakeSettings())
    nan = float("nan")
    first, again = (camera_info(p=[nan] * 12) for _ in range(2))
    cropped = camera_info(
        p=[nan] * 12, roi=SimpleNamespace(x_offset=8, y_offset=0, height=0, width=0)
    )
    infos = [None, first, again, cropped, cropped]
    for index, info in enumerate(infos):
        if info is not None:
            camera.intake.add_info(info)
        camera.color(stamp(index))
        camera.depth(stamp(index))
    assert [pair.camera_info for pair in camera.handed] == infos
    assert [what for what in camera.listener.told if what[0] == "info"] == [
        ("info", again, cropped)
    ]
    assert camera.check().received_info == 4


def test_an_image_that_cannot_be_read_is_told_with_its_reason_and_costs_nothing_else() -> None:
    camera = Camera(IntakeSettings())
    camera.color(stamp(0), encoding="teal9")
    camera.color(stamp(0), data=b"")
    camera.depth(0)
    camera.depth(stamp(0))
    camera.color(stamp(0))
    (pair,) = camera.handed
    assert pair.offset_ns == 0
    assert camera.listener.told == [
        ("dropped", "color", DropReason.BAD_ENCODING),
        ("dropped", "color", DropReason.BAD_SIZE),
        ("dropped", "depth", DropReason.BAD_STAMP),
        ("paired", stamp(0), stamp(0)),
    ]


def test_new_settings_hold_for_images_that_wait() -> None:
    camera = Camera(IntakeSettings(pairing=PairerConfig(mode="exact")))
    camera.color(stamp(0))
    camera.depth(stamp(0) + 5 * MS)
    assert camera.handed == []
    camera.intake.reconfigure(IntakeSettings(pairing=PairerConfig(tolerance_s=0.01)))
    assert [pair.offset_ns for pair in camera.handed] == [5 * MS]
    camera.check()


def test_images_without_a_stamp_are_paired_by_arrival_where_that_is_asked_for() -> None:
    camera = Camera(IntakeSettings(use_arrival_time=True))
    camera.intake.add_color(color_msg(0), stamp(1))
    camera.intake.add_depth(depth_msg(0), stamp(1.1))
    (pair,) = camera.handed
    assert (pair.color.stamp_ns, pair.offset_ns) == (stamp(1), stamp(1.1) - stamp(1))
    camera.check()


def test_compressed_messages_are_taken_in_where_they_are_announced() -> None:
    camera = Camera(IntakeSettings(color_transport="compressed", depth_transport="compressedDepth"))
    png = cv2.imencode(".png", RGB)[1].tobytes()
    camera.intake.add_color(compressed(png, "bgr8; png compressed bgr8", stamp(0)))
    camera.intake.add_depth(compressed(*encode_depth(DEPTH), stamp(0)))
    (pair,) = camera.handed
    np.testing.assert_array_equal(pair.color.read()[0], RGB)
    np.testing.assert_array_equal(pair.depth.read()[0], DEPTH)


def test_a_foreign_decoder_reads_what_is_not_read_here() -> None:
    camera = Camera(IntakeSettings(), decoder=lambda msg: RGB + 7)
    camera.color(stamp(0), encoding="bayer_rggb8")
    camera.depth(stamp(0))
    np.testing.assert_array_equal(camera.handed[0].color.read()[0], RGB + 7)


class SilentFeed:
    """A feed that pairs equal stamps and tells of nothing else, as the stock synchroniser does."""

    def __init__(self, on_event) -> None:
        self._on_event = on_event
        self._colors: dict[int, Any] = {}

    def add_color(self, received) -> None:
        self._colors[received.stamp_ns] = received

    def add_depth(self, received) -> None:
        if color := self._colors.pop(received.stamp_ns, None):
            self._on_event(Pair(received.stamp_ns, received.stamp_ns, color, received))

    def reconfigure(self, config) -> None: ...

    def flush(self, reason) -> None: ...

    def waiting(self) -> None: ...


def test_a_feed_that_tells_nothing_keeps_the_books_balanced_and_lets_colour_go_alone() -> None:
    camera = Camera(ALONE)
    camera.intake.feed = SilentFeed(camera.intake.on_event)
    for index in range(20):
        camera.color(stamp(index))
        if index < 2:
            camera.depth(stamp(index))
    snapshot = camera.check()
    # Missed half a second after the last depth, which is 15 frames.
    assert camera.stamps() == [stamp(index) for index in (0, 1, 17, 18, 19)]
    assert (snapshot.waiting_color, snapshot.waiting_depth) == (15, None)
    assert snapshot.paired_without_depth == 3
    camera.depth(stamp(19))
    assert len(camera.handed) == 5  # not a second time, with depth
