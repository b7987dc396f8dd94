from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from calibnet_core.perception.camera_rays import pixel_footprints
from calibnet_core.perception.geometry import (
    GeometrySettings,
    GeometryStatus,
    ObjectGeometry,
    measure_objects,
)
from calibnet_core.structures import RgbdFrame
from tests.support.analytic_objects import (
    CAMERAS,
    Cuboid,
    Picture,
    Slab,
    SphereCap,
    frame_of,
    picture_of,
    render,
    turned,
    visible_mean,
)

PINHOLE = CAMERAS["pinhole"]
FRONT = Slab(center=(0.05, 0.03, 1.0), size=(0.2, 0.12), rotation=turned())
OBJECTS = {
    "a slab that faces the camera": FRONT,
    "a slab at a slant": Slab(
        center=(0.2, -0.1, 1.0), size=(0.25, 0.12), rotation=turned(z=30) @ turned(y=60)
    ),
    "a ball": SphereCap(center=(-0.2, 0.1, 0.8), radius=0.08),
    "two faces of a box": Cuboid(
        center=(-0.25, 0.0, 0.9), size=(0.2, 0.15, 0.1), rotation=turned(y=40)
    ),
    "three faces of a box": Cuboid(
        center=(0.2, 0.15, 0.9), size=(0.25, 0.1, 0.08), rotation=turned(x=50) @ turned(y=25)
    ),
}


def measure(picture: Picture, **settings) -> ObjectGeometry:
    """Geometry of the first object."""
    options = {key: settings.pop(key) for key in ("has_depth", "up") if key in settings}
    chosen = GeometrySettings(**settings)
    return measure_objects(picture.frame, picture.masks, picture.rois, chosen, **options)[0]


def block_picture(depth_m: np.ndarray, mask: np.ndarray) -> Picture:
    camera = replace(PINHOLE, height=depth_m.shape[0], width=depth_m.shape[1])
    return picture_of(mask[None], frame_of(depth_m, camera))


@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize("thing", OBJECTS)
def test_the_centroid_is_the_mean_of_the_visible_surface(camera: str, thing: str) -> None:
    picture = render(CAMERAS[camera], [OBJECTS[thing]])
    geometry = measure(picture)
    assert geometry.status is GeometryStatus.OK
    assert geometry.depth_valid_ratio == 1.0
    truth = visible_mean(CAMERAS[camera], OBJECTS[thing], picture.rois[0])
    error = np.linalg.norm(geometry.centroid - truth)
    assert error < 0.001 + 0.002 * np.linalg.norm(truth)


def test_the_centroid_and_depths_of_a_facing_slab_are_its_centre() -> None:
    geometry = measure(render(PINHOLE, [FRONT]), stride=1)
    np.testing.assert_allclose(geometry.centroid, FRONT.center, atol=5e-4)
    depths = (geometry.depth_near_m, geometry.depth_median_m, geometry.depth_far_m)
    assert depths == pytest.approx((1.0, 1.0, 1.0), rel=1e-6)


def test_depths_are_percentiles_over_the_mask() -> None:
    mask = np.zeros((60, 60), bool)
    mask[5:45, 5:45] = True  # none of the three lies on one of 1600 readings
    depth = np.linspace(0.9, 1.5, 3600).reshape(60, 60)  # no two are the same
    geometry = measure(block_picture(depth, mask), erode=0, stride=1)
    expected = np.percentile(depth[mask], [5, 50, 95])
    actual = (geometry.depth_near_m, geometry.depth_median_m, geometry.depth_far_m)
    assert actual == pytest.approx(tuple(expected), rel=1e-6)


@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize(
    ("thing", "area", "tolerance"),
    [
        ("a slab that faces the camera", 0.2 * 0.12, 0.02),
        ("a slab at a slant", 0.25 * 0.12, 0.01),
        # The part of a ball that is seen from a distance d is 2 π r² (1 - r / d); its limb is seen
        # at a grazing angle, where pixels say little.
        ("a ball", 2 * math.pi * 0.08**2 * (1 - 0.08 / math.hypot(0.2, 0.1, 0.8)), 0.25),
    ],
)
def test_the_area_is_that_of_the_visible_surface(
    camera: str, thing: str, area: float, tolerance: float
) -> None:
    geometry = measure(render(CAMERAS[camera], [OBJECTS[thing]]))
    assert geometry.surface_area_m2 == pytest.approx(area, rel=tolerance)


def test_the_area_of_a_sphere_cap_follows_from_its_height() -> None:
    cap = SphereCap(center=(0.0, 0.0, 0.9), radius=0.12, half_angle=45)
    geometry = measure(render(PINHOLE, [cap]))
    expected = 2 * math.pi * 0.12**2 * (1 - math.cos(math.radians(45)))
    assert geometry.surface_area_m2 == pytest.approx(expected, rel=0.02)


def test_flying_pixels_on_the_rim_change_little() -> None:
    # The outermost two pixels lie 3 cm behind the object, on the way to the wall.
    slab = OBJECTS["a slab at a slant"]
    picture = render(PINHOLE, [slab])
    exact = measure(picture)
    mask = picture.masks[0]
    inner = mask.copy()
    for axis in (0, 1):
        for shift in (-2, -1, 1, 2):
            inner &= np.roll(mask, shift, axis)
    rim = mask & ~inner
    flying = picture.with_depth(np.where(mask, picture.frame.depth_m + 0.03 * rim, 2.0))
    geometry = measure(flying)
    np.testing.assert_allclose(geometry.centroid, exact.centroid, atol=1e-3)
    np.testing.assert_allclose(geometry.box_size, exact.box_size, rtol=0.02, atol=1e-3)
    assert measure(flying, erode=0).box_size.min() > 0.01


def test_a_piece_of_wall_inside_the_mask_is_left_out() -> None:
    picture = render(PINHOLE, [FRONT])
    depth = picture.frame.depth_m.copy()
    roi = picture.rois[0]
    hole = (slice(roi.y_offset + 20, roi.y_offset + 45), slice(roi.x_offset, roi.x_offset + 30))
    depth[hole] = 1.6
    geometry = measure(picture.with_depth(depth))
    assert geometry.depth_valid_ratio == 1.0
    assert geometry.depth_far_m == pytest.approx(1.0)
    assert geometry.box_size.min() < 1e-3


def test_a_long_object_that_points_away_is_not_cut() -> None:
    # A handle of 0.6 m whose far end is many median deviations behind a big head.
    mask, depth = np.zeros((200, 400), bool), np.full((200, 400), 3.0)
    mask[20:180, 20:180], depth[20:180, 20:180] = True, 1.0
    mask[90:110, 180:380] = True
    depth[90:110, 180:380] = np.linspace(1.0, 1.6, 200)
    depth[40:50, 40:50] = 2.0  # and a piece of wall
    geometry = measure(block_picture(depth, mask))
    share = 20 * 200 / (160 * 160 + 20 * 200)
    expected = (1 - share) * 1.0 + share * 1.3
    assert geometry.centroid[2] == pytest.approx(expected, abs=2e-3)
    assert geometry.depth_far_m < 1.6
    assert 0.6 < geometry.box_size.max() < 0.75


def test_a_thin_object_is_measured_with_less_of_its_rim_taken_off() -> None:
    mask = np.zeros((60, 120), bool)
    mask[30:33, 10:110] = True  # three rows: nothing is left after erosion by two
    geometry = measure(block_picture(np.full((60, 120), 1.0), mask))
    assert geometry.status is GeometryStatus.OK
    np.testing.assert_allclose(sorted(geometry.box_size)[1:], [3 / 590, 100 / 600], rtol=0.06)


def test_an_object_at_the_images_border_keeps_its_pixels_there() -> None:
    mask = np.zeros((100, 100), bool)
    mask[20:80, :40] = True
    picture = block_picture(np.full((100, 100), 1.0), mask)
    geometry = measure(picture, stride=1, erode=8)
    assert geometry.box_center[0] == pytest.approx((19.5 - PINHOLE.cx) / 600, abs=2e-4)
    assert geometry.box_size[0] == pytest.approx(40 / 600, rel=0.01)


def test_statuses_come_in_their_order() -> None:
    picture = render(PINHOLE, [FRONT])
    frame = picture.frame
    no_info = replace(picture, frame=replace(frame, intrinsics=None))
    empty = picture.with_depth(np.full_like(frame.depth_m, np.nan))
    only_map = RgbdFrame(rgb=frame.rgb, depth_map=frame.rgb[..., 0], intrinsics=PINHOLE)
    unknown = replace(PINHOLE, distortion_model="purple", distortion=(0.1,))
    foreign = replace(PINHOLE, height=9)
    cases = [
        (measure(no_info, enabled=False, has_depth=False), GeometryStatus.DISABLED, 0.0),
        (measure(no_info, has_depth=False), GeometryStatus.NO_DEPTH, 0.0),
        (measure(replace(picture, frame=only_map)), GeometryStatus.NO_DEPTH, 0.0),
        (measure(no_info), GeometryStatus.NO_CAMERA_INFO, 1.0),
        (measure(replace(no_info, frame=replace(frame, intrinsics=unknown))), 3, 1.0),
        (measure(replace(no_info, frame=replace(frame, intrinsics=foreign))), 3, 1.0),
        (measure(replace(no_info, frame=replace(empty.frame, intrinsics=None))), 3, 0.0),
        (measure(empty), GeometryStatus.TOO_FEW_POINTS, 0.0),
        (measure(picture, min_points=100_000), GeometryStatus.TOO_FEW_POINTS, 1.0),
    ]
    for geometry, status, ratio in cases:
        assert geometry.status == status
        assert geometry.depth_valid_ratio == ratio
        assert np.isnan(geometry.centroid).all()
        assert np.isnan(geometry.covariance).all()
        assert np.isnan(geometry.surface_area_m2)
        np.testing.assert_array_equal(geometry.box_size, 0.0)
        np.testing.assert_array_equal(geometry.box_rotation, np.eye(3))
        is_known = status == GeometryStatus.NO_CAMERA_INFO and ratio > 0.0
        assert math.isnan(geometry.depth_median_m) is not is_known


def test_depths_are_the_same_with_and_without_camera_info() -> None:
    picture = render(PINHOLE, [OBJECTS["three faces of a box"]])
    known = measure(picture)
    unknown = measure(replace(picture, frame=replace(picture.frame, intrinsics=None)))
    for name in ("depth_valid_ratio", "depth_near_m", "depth_median_m", "depth_far_m"):
        assert getattr(known, name) == getattr(unknown, name)


def test_pixels_without_a_ray_are_left_out() -> None:
    # Folds over at 0.4057, 243 pixels from the centre; the slab reaches beyond.
    camera = replace(PINHOLE, distortion_model="plumb_bob", distortion=(-0.9, 0.0, 0.0, 0.0))
    mask = np.zeros((480, 640), bool)
    mask[200:280, 500:620] = True
    picture = picture_of(mask[None], frame_of(np.full((480, 640), 1.0), camera))
    geometry = measure(picture)
    assert geometry.status is GeometryStatus.OK
    assert geometry.depth_valid_ratio == 1.0
    assert geometry.centroid[0] < 0.6086
    seen = np.isfinite(pixel_footprints(camera)) & mask
    assert mask.sum() > seen.sum() + 1000
    (of_the_seen,) = measure_objects(
        picture.frame, seen[None], picture_of(seen[None], picture.frame).rois, GeometrySettings()
    )
    assert geometry.surface_area_m2 == pytest.approx(of_the_seen.surface_area_m2, rel=0.01)


def test_readings_outside_the_limits_count_as_not_measured() -> None:
    depth = np.full((60, 60), 1.0)
    depth[:10], depth[10:20], depth[20:30], depth[30:32] = 0.05, 11.0, np.inf, -1.0
    geometry = measure(block_picture(depth, np.ones((60, 60), bool)), erode=0)
    assert geometry.depth_valid_ratio == pytest.approx(28 / 60)
    assert geometry.depth_median_m == 1.0


def test_no_object_gives_no_geometry() -> None:
    frame = frame_of(np.ones((4, 4)), None)
    assert measure_objects(frame, np.zeros((0, 4, 4), bool), (), GeometrySettings()) == ()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"min_points": 2}, "geometry.min_points is 2; choose a value from 3 to 1000000"),
        ({"stride": 17}, "geometry.stride is 17"),
        ({"erode": -1}, "geometry.erode is -1"),
        ({"outlier_mad": math.nan}, "geometry.outlier_mad is nan"),
        ({"min_m": 2.0, "max_m": 2.0}, "geometry.min_m is 2.0.*below geometry.max_m"),
        ({"max_m": math.inf}, "geometry.max_m is inf"),
        ({"depth_noise": -0.1}, "geometry.depth_noise"),
        ({"noise_patch_px": 0.5}, "geometry.noise_patch_px"),
        ({"box_up_axis": "sky"}, "geometry.box_up_axis is 'sky'; choose one of none, gravity"),
    ],
)
def test_a_setting_out_of_range_is_named(values: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        GeometrySettings(**values)
