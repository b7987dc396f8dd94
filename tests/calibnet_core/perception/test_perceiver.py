from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from calibnet_core.perception.geometry import GeometrySettings, GeometryStatus
from calibnet_core.perception.mask_codec import tight_roi
from calibnet_core.perception.perceiver import (
    FrameStatus,
    Perceiver,
    Perception,
    PerceptionSettings,
)
from calibnet_core.perception.tracking import TrackAssignment, TrackingSettings
from calibnet_core.structures import CameraIntrinsics, Instances, RgbdFrame

HEIGHT, WIDTH, FOCAL = 120, 160, 100.0
UNTRACKED = TrackingSettings(enabled=False)


def frame_at(stamp_s: float, depth_m: float = 1.0) -> RgbdFrame:
    return RgbdFrame(
        rgb=np.zeros((HEIGHT, WIDTH, 3), np.uint8),
        depth_m=np.full((HEIGHT, WIDTH), depth_m, np.float32),
        intrinsics=CameraIntrinsics(
            height=HEIGHT, width=WIDTH, fx=FOCAL, fy=FOCAL, cx=79.5, cy=59.5
        ),
        stamp_ns=round(stamp_s * 1e9),
    )


def seen(*objects: tuple[int, float]) -> Instances:
    """Squares of 30 pixels at the given column; column -1 is an empty mask."""
    masks = np.zeros((len(objects), HEIGHT, WIDTH), np.bool_)
    for mask, (column, _) in zip(masks, objects, strict=True):
        if column >= 0:
            mask[45:75, column : column + 30] = True
    scores = np.array([score for _, score in objects], np.float32)
    return Instances.from_masks(masks, scores)


def ids(perception: Perception) -> list[int]:
    return [track.track_id for track in perception.tracks]


def scores(perception: Perception) -> Sequence[float]:
    return [round(float(score), 3) for score in perception.instances.scores]


def test_every_part_of_the_answer_is_about_the_same_objects() -> None:
    perceiver = Perceiver(PerceptionSettings())
    instances = seen((100, 0.9), (-1, 0.8), (10, 0.7), (55, 0.45))
    perception = perceiver.perceive(frame_at(0.0), instances)
    assert len(perception) == 2
    assert list(perception.instance_ids) == ids(perception) == [1, 2]
    assert scores(perception) == [0.9, 0.7]
    assert perception.rois == tuple(tight_roi(mask) for mask in perception.instances.masks)
    assert [roi.x_offset for roi in perception.rois] == [100, 10]
    for geometry, middle in zip(perception.geometry, (114.5, 24.5), strict=True):
        assert geometry.status == GeometryStatus.OK
        expected = [(middle - 79.5) / FOCAL, 0.0, 1.0]
        np.testing.assert_allclose(geometry.centroid, expected, atol=0.01)
    assert perception.status == FrameStatus.OK


def test_tracks_follow_the_measured_positions() -> None:
    perceiver = Perceiver(PerceptionSettings())
    assert ids(perceiver.perceive(frame_at(0.0), seen((60, 0.9)))) == [1]
    # 0.2 m to the side the masks overlap by a fifth; one metre farther off it is another object.
    assert ids(perceiver.perceive(frame_at(0.1), seen((80, 0.9)))) == [1]
    assert ids(perceiver.perceive(frame_at(0.2, 2.0), seen((100, 0.9)))) == [2]


def test_a_weak_object_is_published_only_while_its_track_is_shown() -> None:
    perceiver = Perceiver(PerceptionSettings(score_threshold=0.5))
    assert perceiver.settings.network_threshold == pytest.approx(0.4)
    assert len(perceiver.perceive(frame_at(0.0), seen((10, 0.45)))) == 0
    for k, score in enumerate((0.55, 0.45, 0.41, 0.55)):
        perception = perceiver.perceive(frame_at(0.1 + 0.1 * k), seen((100, score), (10, 0.45)))
        assert (ids(perception), scores(perception)) == ([1], [score])
    perceiver.settings = replace(perceiver.settings, score_threshold=0.8)
    assert len(perceiver.perceive(frame_at(0.6), seen((100, 0.55)))) == 0


def test_empty_frames_let_tracks_end() -> None:
    perceiver = Perceiver(PerceptionSettings(tracking=TrackingSettings(max_gap_s=0.15)))
    assert ids(perceiver.perceive(frame_at(0.0), seen((10, 0.9)))) == [1]
    assert len(perceiver.perceive(frame_at(0.1), seen())) == 0
    assert ids(perceiver.perceive(frame_at(0.2), seen((10, 0.9)))) == [2]


def test_without_tracking_all_above_the_threshold_are_published_without_a_name() -> None:
    perceiver = Perceiver(PerceptionSettings(score_threshold=0.5, tracking=UNTRACKED))
    assert perceiver.settings.network_threshold == 0.5
    perceiver.settings = replace(perceiver.settings, score_threshold=0.6)
    # The network was asked before the threshold rose.
    perception = perceiver.perceive(frame_at(0.0), seen((10, 0.9), (60, 0.55)))
    assert perception.tracks == (TrackAssignment(track_id=0, age=0, is_shown=True),)
    assert scores(perception) == [0.9]
    assert len(perceiver.glance(frame_at(0.1), seen((10, 0.9), (60, 0.55)))) == 2


def test_a_glance_names_the_known_shows_all_and_changes_nothing() -> None:
    perceiver = Perceiver(PerceptionSettings())
    perceiver.perceive(frame_at(0.0), seen((10, 0.9)))
    glanced = perceiver.glance(frame_at(0.5), seen((100, 0.9), (10, 0.1)))
    long_after = perceiver.glance(frame_at(50.0), seen((10, 0.9)))
    assert [track.track_id for track in long_after.tracks] == [0]
    assert glanced.tracks == (
        TrackAssignment(track_id=0, age=0, is_shown=True),
        TrackAssignment(track_id=1, age=1, is_shown=True),
    )
    after = perceiver.perceive(frame_at(0.1), seen((100, 0.9), (10, 0.9)))
    assert [(track.track_id, track.age) for track in after.tracks] == [(2, 1), (1, 2)]


def test_ids_begin_anew_with_the_frame_after_a_reset() -> None:
    perceiver = Perceiver(PerceptionSettings())
    assert ids(perceiver.perceive(frame_at(0.0), seen((10, 0.9), (100, 0.8)))) == [1, 2]
    perceiver.reset_tracks()
    assert ids(perceiver.perceive(frame_at(0.1), seen((100, 0.8)))) == [1]
    assert ids(perceiver.perceive(frame_at(0.2), seen((100, 0.8)))) == [1]


def test_the_status_tells_what_was_missing() -> None:
    settings = PerceptionSettings(geometry=GeometrySettings(enabled=False))
    perceiver = Perceiver(settings)
    one = seen((10, 0.9))
    perception = perceiver.perceive(frame_at(0.0), one, has_depth=False)
    assert perception.status == FrameStatus.DEPTH_MISSING
    assert not perception.has_depth
    assert perception.geometry[0].status == GeometryStatus.DISABLED
    reduced = perceiver.perceive(frame_at(0.1), one, has_depth=False, is_reduced=True)
    assert reduced.status == FrameStatus.REDUCED_INPUT
    perceiver.settings = PerceptionSettings()
    flat = perceiver.perceive(frame_at(0.2), one, has_depth=False)
    assert flat.geometry[0].status == GeometryStatus.NO_DEPTH
    assert ids(flat) == [1]
