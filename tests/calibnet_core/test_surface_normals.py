from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibnet_core.structures import CameraIntrinsics
from calibnet_core.surface_normals import averaged, surface_normals

CAMERA = CameraIntrinsics(height=48, width=64, fx=60.0, fy=55.0, cx=30.0, cy=25.0)


def plane(
    camera: CameraIntrinsics, facing: tuple[float, float, float], distance: float
) -> NDArray[np.float32]:
    """Depth of the plane that faces `facing` and lies `distance` ahead on the optical axis."""
    columns, rows = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    rays = np.stack(
        [
            (columns - camera.cx) / camera.fx,
            (rows - camera.cy) / camera.fy,
            np.ones(columns.shape),
        ],
        axis=-1,
    )
    return (facing[2] * distance / (rays @ np.array(facing))).astype(np.float32)


def normals_of(
    depth_m: NDArray[np.float32],
    camera: CameraIntrinsics | None,
    valid: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    inverse = (1.0 / depth_m).astype(np.float32)
    return surface_normals(inverse if valid is None else np.where(valid, inverse, 0.0), camera)


def facing_camera(tilt: float, turn: float) -> tuple[float, float, float]:
    """A unit vector towards the camera, tilted from its axis (radians) in the direction `turn`."""
    return (
        math.sin(tilt) * math.cos(turn),
        math.sin(tilt) * math.sin(turn),
        -math.cos(tilt),
    )


@given(
    tilt=st.floats(0.0, 0.9),
    turn=st.floats(0.0, 6.28),
    distance=st.floats(0.3, 5.0),
)
def test_the_normal_of_a_plane_is_found_at_every_pixel_and_at_any_distance(
    tilt: float, turn: float, distance: float
) -> None:
    facing = facing_camera(tilt, turn)
    depth_m = plane(CAMERA, facing, distance)
    normals = normals_of(depth_m, CAMERA)
    assert normals.shape == (48, 64, 2)
    np.testing.assert_allclose(normals, np.broadcast_to(facing[:2], normals.shape), atol=2e-3)


@pytest.mark.parametrize("width", [640, 641, 1280])
def test_a_large_image_is_averaged_and_gives_the_same_normals(width: int) -> None:
    height = width * 3 // 4
    camera = CameraIntrinsics(
        height=height, width=width, fx=0.9 * width, fy=0.9 * width, cx=0.48 * width, cy=300.0
    )
    facing = facing_camera(0.6, 1.0)
    depth_m = plane(camera, facing, 1.2)
    normals = normals_of(depth_m, camera)
    assert normals.shape == (height, width, 2)
    np.testing.assert_allclose(normals, np.broadcast_to(facing[:2], normals.shape), atol=3e-3)


def test_an_average_is_of_what_was_measured_by_its_weight() -> None:
    depths = np.array([[1.0, 3.0, 5.0, 0.0], [0.0, 2.0, 0.0, 0.0]], np.float32)
    weights = np.array([[1.0, 1.0, 0.5, 0.0], [0.0, 1.0, 0.0, 0.0]], np.float32)
    inverse, presence = averaged(depths, weights, (1, 2))
    np.testing.assert_allclose(inverse, [[2.0, 5.0]])
    np.testing.assert_allclose(presence, [[0.75, 0.125]])
    nothing, weight = averaged(depths, np.zeros_like(weights), (1, 2))
    assert not nothing.any()
    assert not weight.any()
    heavier, _ = averaged(depths, np.array([[3, 1, 1, 0], [0, 0, 0, 0]], np.float32), (1, 2))
    np.testing.assert_allclose(heavier, [[1.5, 5.0]])


def test_holes_take_the_plane_of_their_neighbours_where_there_are_enough() -> None:
    facing = facing_camera(0.5, 2.0)
    depth_m = plane(CAMERA, facing, 1.0)
    valid = np.ones(depth_m.shape, bool)
    valid[10:12, 20:22] = False  # small enough for a window of 5x5 to see around
    valid[20:40, 30:50] = False
    normals = normals_of(depth_m, CAMERA, valid)
    np.testing.assert_allclose(normals[valid], np.tile(facing[:2], (valid.sum(), 1)), atol=2e-3)
    np.testing.assert_allclose(normals[10:12, 20:22], np.tile(facing[:2], (2, 2, 1)), atol=2e-3)
    assert not normals[23:37, 33:47].any()


@pytest.mark.parametrize("line", [(slice(24, 25), slice(None)), (slice(None), slice(9, 10))])
def test_a_single_line_of_readings_tells_no_plane(line: tuple[slice, slice]) -> None:
    depth_m = plane(CAMERA, facing_camera(0.5, 2.0), 1.0)
    valid = np.zeros(depth_m.shape, bool)
    valid[line] = True
    assert not normals_of(depth_m, CAMERA, valid).any()


def test_without_readings_there_is_no_normal() -> None:
    assert not surface_normals(np.zeros((5, 7), np.float32), None).any()


def test_an_unknown_camera_is_taken_for_one_of_58_degrees() -> None:
    nominal = CameraIntrinsics(height=48, width=64, fx=57.6, fy=57.6, cx=31.5, cy=23.5)
    depth_m = plane(nominal, facing_camera(0.7, 4.0), 2.0)
    np.testing.assert_array_equal(
        normals_of(depth_m, None),
        normals_of(depth_m, nominal),
    )


def test_right_and_down_are_positive() -> None:
    columns = np.arange(64, dtype=np.float32)
    # Nearer to the right: the surface faces left.
    depth_m = np.broadcast_to(2.0 - 0.01 * columns, (48, 64)).astype(np.float32)
    assert (normals_of(depth_m, CAMERA)[..., 0] < -0.1).all()
    # Nearer below, as a table is: the surface faces up.
    table = np.ascontiguousarray(depth_m[:, :48].T)
    assert (normals_of(table, None)[..., 1] < -0.1).all()
