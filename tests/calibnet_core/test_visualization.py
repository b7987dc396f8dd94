from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibnet_core.perception.geometry import GeometryStatus, ObjectGeometry
from calibnet_core.perception.mask_codec import tight_roi
from calibnet_core.perception.shapes import box_outline
from calibnet_core.structures import FrameError, Instances
from calibnet_core.visualization import (
    colorize_depth,
    contact_sheet,
    display_captions,
    display_numbers,
    draw_instances,
    draw_perception,
    instance_color,
    mask_outlines,
)
from tests.support.perceptions import camera, discs, known_geometry, make_perception

SIZE = (120, 160)
GREY = np.full((*SIZE, 3), 128, np.uint8)


def square(top: int, left: int, side: int = 40) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def make(*masks: np.ndarray) -> Instances:
    scores = np.linspace(0.9, 0.5, len(masks)).astype(np.float32)
    return Instances.from_masks(np.stack(masks), scores)


def test_without_instances_the_picture_is_an_equal_copy() -> None:
    picture = draw_instances(GREY, Instances.empty(SIZE))
    np.testing.assert_array_equal(picture, GREY)
    assert not np.shares_memory(picture, GREY)


def test_the_inside_is_filled_the_far_outside_untouched_and_the_input_kept() -> None:
    picture = draw_instances(GREY, make(square(50, 60)), with_captions=False)
    expected = (128 * 0.55 + np.array(instance_color(0)) * 0.45 + 0.5).astype(np.uint8)
    np.testing.assert_array_equal(picture[60:80, 70:90].reshape(-1, 3) - expected, 0)
    border = np.ones(SIZE, bool)
    border[46:94, 56:104] = False
    np.testing.assert_array_equal(picture[border], GREY[border])
    assert (GREY == 128).all()


def test_the_outline_has_the_full_colour_and_follows_holes() -> None:
    ring = square(30, 40, 60)
    ring[50:70, 60:80] = False
    picture = draw_instances(GREY, make(ring), with_captions=False)
    is_outline = (picture == instance_color(0)).all(axis=2)
    assert is_outline[30, 40:100].mean() > 0.9
    assert is_outline[48:52, 60:80].any(axis=0).mean() > 0.9
    np.testing.assert_array_equal(picture[58:62, 68:72], 128)


def test_labels_choose_colours_so_that_a_track_keeps_its_own() -> None:
    masks = square(10, 10), square(70, 100)
    first = draw_instances(GREY, make(*masks), labels=[4, 9], with_captions=False)
    swapped = draw_instances(GREY, make(*masks[::-1]), labels=[9, 4], with_captions=False)
    np.testing.assert_array_equal(first, swapped)
    counted = draw_instances(GREY, make(*masks), with_captions=False)
    named = draw_instances(GREY, make(*masks), labels=[1, 2], with_captions=False)
    np.testing.assert_array_equal(counted, named)


def test_a_small_instance_stays_visible_on_a_large_one() -> None:
    large, small = square(10, 20, 100), square(50, 60, 20)
    for masks, small_index in (((large, small), 1), ((small, large), 0)):
        picture = draw_instances(GREY, make(*masks), with_captions=False, opacity=1.0)
        np.testing.assert_array_equal(picture[60, 70], instance_color(small_index))


def test_boxes_are_drawn_on_request() -> None:
    mask = square(40, 40)
    mask[40:60, 40:60] = False
    plain = draw_instances(GREY, make(mask), with_captions=False)
    boxed = draw_instances(GREY, make(mask), with_captions=False, with_boxes=True)
    np.testing.assert_array_equal(plain[40, 42:56], GREY[40, 42:56])
    np.testing.assert_array_equal(boxed[40, 42:56], np.tile(instance_color(0), (14, 1)))


def test_captions_stay_in_the_picture_and_off_one_another() -> None:
    masks = [square(0, 0, 12), square(0, 8, 12), square(0, 148, 12), square(108, 148, 12)]
    plain = draw_instances(GREY, make(*masks), with_captions=False)
    written = draw_instances(GREY, make(*masks))
    changed = (plain != written).any(axis=2)
    assert changed.sum() > 4 * 300
    # Each plate is filled with its instance's colour; four whole plates do not hide one another.
    sizes = [((written == instance_color(i)).all(axis=2) & changed).sum() for i in range(4)]
    assert min(sizes) > 0.5 * max(sizes)


def test_captions_are_legible_on_every_colour() -> None:
    for label in range(10):
        picture = draw_instances(GREY, make(square(60, 60)), labels=[label + 1])
        plate = picture[40:58, 40:120].reshape(-1, 3).astype(float)
        lightness = plate @ (0.299, 0.587, 0.114)
        color = np.array(instance_color(label)) @ (0.299, 0.587, 0.114)
        contrast = max(color - lightness.min(), lightness.max() - color)
        assert contrast > 80, label


def test_neighbouring_colours_differ_in_lightness_too() -> None:
    lightness = [np.array(instance_color(i)) @ (0.299, 0.587, 0.114) for i in range(11)]
    assert np.abs(np.diff(lightness)).min() > 35
    assert len({instance_color(i) for i in range(10)}) == 10


def test_an_empty_mask_draws_nothing() -> None:
    picture = draw_instances(GREY, make(np.zeros(SIZE, bool)), with_boxes=True)
    np.testing.assert_array_equal(picture, GREY)


def test_mismatches_are_named() -> None:
    with pytest.raises(FrameError, match=r"masks are \(120, 160\) but the image is \(60, 160\)"):
        draw_instances(GREY[:60], make(square(0, 0)))
    with pytest.raises(FrameError, match="2 labels for 1 instances"):
        draw_instances(GREY, make(square(0, 0)), labels=[1, 2])


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    count=st.integers(0, 5),
    seed=st.integers(0, 99),
)
def test_any_masks_on_any_size_can_be_drawn(height: int, width: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    masks = rng.random((count, height, width)) < rng.random()
    instances = Instances.from_masks(masks, rng.random(count).astype(np.float32))
    picture = draw_instances(rgb, instances, with_boxes=True)
    assert picture.shape == rgb.shape
    assert picture.dtype == np.uint8


def test_depth_runs_from_red_to_blue_and_unmeasured_is_grey() -> None:
    depth_m = np.linspace(0.5, 3.0, 200, dtype=np.float32).reshape(1, 200).repeat(4, axis=0)
    depth_m[3, :50], depth_m[3, 50:100] = np.nan, 0.0
    depth_m[3, 100:150], depth_m[3, 150:] = np.inf, -1.0
    picture = colorize_depth(depth_m).astype(int)
    near, far = picture[0, 10], picture[0, -20]
    assert near[0] > near[2] + 50
    assert far[2] > far[0]
    np.testing.assert_array_equal(picture[3], np.tile(picture[3, 0], (200, 1)))
    assert picture[3, 0].max() < 80
    assert np.ptp(picture[3, 0]) < 10


def test_a_fixed_range_gives_a_distance_the_same_colour_in_every_picture() -> None:
    near = np.array([[0.5, 1.0]], np.float32)
    far = np.array([[1.0, 4.0]], np.float32)
    first, second = (colorize_depth(d, range_m=(0.2, 5.0)) for d in (near, far))
    np.testing.assert_array_equal(first[0, 1], second[0, 0])


@pytest.mark.parametrize("value", [np.nan, 1.0])
def test_flat_and_empty_depth_have_a_picture(value: float) -> None:
    picture = colorize_depth(np.full((3, 4), value, np.float32))
    assert picture.shape == (3, 4, 3)
    assert (picture == picture[0, 0]).all()


def test_a_sheet_holds_every_picture_in_its_place() -> None:
    colors = [[(10, 0, 0), (20, 0, 0)], [(30, 0, 0)]]
    rows = [[np.full((20, 30, 3), color, np.uint8) for color in row] for row in colors]
    sheet = contact_sheet(rows, column_titles=["a", "b"], row_captions=["first", "second"])
    assert sheet.shape[1] == 3 * 8 + 2 * 30
    found = {value: np.argwhere(sheet[..., 0] == value) for value in (10, 20, 30)}
    assert all((sheet[..., 0] == value).sum() >= 600 for value in found)
    assert found[10][:, 1].max() < found[20][:, 1].min()
    assert found[10][:, 0].max() < found[30][:, 0].min()
    bare = contact_sheet(rows)
    assert bare.shape[0] < sheet.shape[0]


def test_a_sheet_keeps_to_its_width_and_never_enlarges() -> None:
    picture = np.zeros((300, 400, 3), np.uint8)
    sheet = contact_sheet([[picture] * 3], max_width=600)
    assert 560 < sheet.shape[1] <= 600
    assert contact_sheet([[picture]], max_width=5000).shape[1] == 400 + 16
    small = np.full((10, 10, 3), 77, np.uint8)
    assert (contact_sheet([[picture], [small]])[..., 0] == 77).sum() == 100
    long_title = contact_sheet([[picture]], column_titles=["x" * 500], max_width=300)
    assert long_title.shape[1] <= 300


def test_impossible_sheets_are_refused() -> None:
    with pytest.raises(FrameError, match="at least one picture"):
        contact_sheet([])
    with pytest.raises(FrameError, match="at least one picture"):
        contact_sheet([[]])
    with pytest.raises(FrameError, match="raise max_width"):
        contact_sheet([[GREY] * 20], max_width=100)


def test_captions_name_track_score_and_distance_as_far_as_they_are_known() -> None:
    near = replace(known_geometry(), centroid=np.array([0.0, 0.0, 1.236]))
    unknown = ObjectGeometry(status=GeometryStatus.TOO_FEW_POINTS)
    perception = make_perception(
        discs(SIZE, 3),
        scores=[0.83, 0.5, 0.25],
        track_ids=[7, 0, 9],
        geometry=[near, unknown, near],
    )
    assert display_captions(perception) == ["7 0.83 1.24 m", "2 0.50", "9 0.25 1.24 m"]
    assert display_numbers(perception) == [7, 2, 9]


def test_an_object_keeps_its_colour_while_its_place_in_the_result_changes() -> None:
    masks = np.stack([square(10, 10), square(70, 100)])
    first = make_perception(masks, scores=[0.5, 0.5], track_ids=[4, 6], frame={"rgb": GREY})
    second = make_perception(masks[::-1], scores=[0.5, 0.5], track_ids=[6, 4], frame={"rgb": GREY})
    np.testing.assert_array_equal(draw_perception(first), draw_perception(second))


def test_the_box_of_an_object_is_drawn_where_its_corners_are_seen() -> None:
    geometry = known_geometry(5)
    mask = square(0, 0, 4)[np.newaxis]
    flat = replace(geometry, status=GeometryStatus.DISABLED)
    pictures = [
        draw_perception(make_perception(mask, geometry=[g], frame={"rgb": GREY}))
        for g in (geometry, flat)
    ]
    is_drawn = (pictures[0] != pictures[1]).any(axis=2)
    corners = np.concatenate([line[[0, -1]] for line in box_outline(geometry, camera(SIZE))])
    assert len(corners) == 24
    for x, y in corners.round().astype(int):
        assert is_drawn[y - 1 : y + 2, x - 1 : x + 2].any()
    assert 0.005 < is_drawn.mean() < 0.2


def test_outlines_lie_on_the_rim_of_the_mask_and_of_its_hole() -> None:
    ring = square(30, 40, 60)
    ring[50:70, 60:80] = False
    roi = tight_roi(ring)
    assert roi is not None
    outlines = mask_outlines(ring, roi)
    assert len(outlines) == 2
    for points in outlines:
        assert all(ring[y, x] for x, y in points)
    corners = {(40, 30), (99, 30), (99, 89), (40, 89)}
    assert corners in [{(int(x), int(y)) for x, y in points} for points in outlines]


def test_captions_and_outlines_must_be_one_for_each() -> None:
    with pytest.raises(FrameError, match="2 captions for 1 instances"):
        draw_instances(GREY, make(square(0, 0)), captions=["a", "b"])
    with pytest.raises(FrameError, match="0 box outlines for 1 instances"):
        draw_instances(GREY, make(square(0, 0)), box_outlines=[])
