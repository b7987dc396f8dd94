from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from calibnet_core.perception.camera_rays import (
    CameraModelError,
    camera_rays,
    pixel_footprints,
    project_rays,
)
from calibnet_core.perception.frame_assembly import intrinsics_from_camera_info
from calibnet_core.structures import CameraIntrinsics
from tests.support.analytic_objects import camera_matrix, pixel_centres, rays_through

SMALL = CameraIntrinsics(height=60, width=80, fx=70.0, fy=72.0, cx=41.2, cy=28.7)
PRISM = (0.12, -0.25, 0.001, -0.0008, 0.07, 0.01, 0.02, 0.01, 0.002, -0.001, 0.003, 0.001)
MODELS = {
    "plumb_bob of 4": ("plumb_bob", (-0.3, 0.1, 0.001, -0.0008)),
    "plumb_bob of 5": ("plumb_bob", (0.12, -0.25, 0.001, -0.0008, 0.07)),
    "rational of 8": (
        "rational_polynomial",
        (0.52, -2.6, 0.0006, -0.0002, 1.5, 0.4, -2.43, 1.43),
    ),
    "rational of 12": ("rational_polynomial", PRISM),
    "rational of 14": ("rational_polynomial", (*PRISM, 0.02, -0.03)),
    "equidistant": ("equidistant", (0.02, -0.01, 0.003, -0.001)),
}


def camera(name: str) -> CameraIntrinsics:
    model, coefficients = MODELS[name]
    return replace(SMALL, distortion_model=model, distortion=coefficients)


def project_by_opencv(intrinsics: CameraIntrinsics, rays: np.ndarray) -> np.ndarray:
    points = np.column_stack([rays.reshape(-1, 2), np.ones(rays.size // 2)])[:, None]
    pose = np.zeros(3), np.zeros(3)
    arguments = camera_matrix(intrinsics), np.array(intrinsics.distortion)
    if intrinsics.distortion_model == "equidistant":
        return cv2.fisheye.projectPoints(points, *pose, *arguments)[0][:, 0]
    return cv2.projectPoints(points, *pose, *arguments)[0][:, 0]


@pytest.mark.parametrize("name", MODELS)
def test_opencv_projects_every_ray_back_onto_its_pixel(name: str) -> None:
    intrinsics = camera(name)
    rays = camera_rays(intrinsics)
    assert rays.shape == (60, 80, 2)
    assert rays.dtype == np.float32
    assert not rays.flags.writeable
    assert np.isfinite(rays).all()
    pixels = project_by_opencv(intrinsics, rays.astype(np.float64))
    np.testing.assert_allclose(pixels, pixel_centres(60, 80), atol=2e-5)


@pytest.mark.parametrize("name", MODELS)
def test_rays_are_projected_as_opencv_does(name: str) -> None:
    intrinsics = camera(name)
    rays = np.random.default_rng(0).uniform(-0.5, 0.5, (50, 2))
    expected = project_by_opencv(intrinsics, rays)
    np.testing.assert_allclose(project_rays(intrinsics, rays), expected, atol=1e-9)


def test_without_distortion_a_ray_is_worked_by_hand() -> None:
    rays = camera_rays(SMALL)
    np.testing.assert_allclose(rays[10, 20], [(20 - 41.2) / 70, (10 - 28.7) / 72], rtol=1e-6)
    np.testing.assert_allclose(pixel_footprints(SMALL), 1 / (70 * 72), rtol=1e-3)


def test_pixels_beyond_the_fold_of_the_distortion_have_no_ray() -> None:
    # x (1 - 0.9 x²) is greatest at x = 0.6086, where it is 0.4057: 28.4 pixels from the centre.
    intrinsics = replace(SMALL, distortion_model="plumb_bob", distortion=(-0.9, 0.0, 0.0, 0.0))
    rays = camera_rays(intrinsics)
    offset = pixel_centres(60, 80) - (SMALL.cx, SMALL.cy)
    radius = np.hypot(*(offset / (SMALL.fx, SMALL.fy)).T).reshape(60, 80)
    has_ray = np.isfinite(rays).all(axis=-1)
    np.testing.assert_array_equal(has_ray, radius < 0.4057)
    assert np.hypot(*rays[has_ray].T).max() < 0.6086
    assert np.isnan(pixel_footprints(intrinsics)[~has_ray]).all()


def test_the_footprint_is_the_area_between_rays_a_pixel_apart() -> None:
    intrinsics = camera("rational of 8")
    corners = np.array([[11.5, 8.5], [12.5, 8.5], [12.5, 9.5], [11.5, 9.5]])
    x, y = rays_through(intrinsics, corners).T
    area = 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
    assert pixel_footprints(intrinsics)[9, 12] == pytest.approx(area, rel=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1)])
def test_an_image_of_one_row_or_column_has_footprints(size: tuple[int, int]) -> None:
    intrinsics = replace(SMALL, height=size[0], width=size[1])
    np.testing.assert_allclose(pixel_footprints(intrinsics), 1 / (70 * 72), rtol=1e-2)


def test_the_map_of_a_camera_is_computed_once() -> None:
    first = camera_rays(camera("plumb_bob of 5"))
    assert camera_rays(camera("plumb_bob of 5")) is first


@pytest.mark.parametrize(
    ("model", "coefficients", "words"),
    [
        ("purple", (0.1,) * 5, "distortion model 'purple', which is unknown; use plumb_bob"),
        ("plumb_bob", (0.1,) * 3, "3 coefficients.*4 or 5 or 8"),
        ("equidistant", (0.1,) * 5, "5 coefficients.*'equidistant', which has 4;"),
        ("plumb_bob", (0.1, float("nan"), 0.0, 0.0), "not all of them finite"),
    ],
)
def test_distortion_that_cannot_be_computed_is_refused_in_words(
    model: str, coefficients: tuple[float, ...], words: str
) -> None:
    intrinsics = replace(SMALL, distortion_model=model, distortion=coefficients)
    for function in (camera_rays, pixel_footprints):
        with pytest.raises(CameraModelError, match=words):
            function(intrinsics)


def test_absurd_coefficients_give_no_rays_and_no_error() -> None:
    intrinsics = replace(SMALL, distortion_model="plumb_bob", distortion=(1e308,) * 4)
    assert camera_rays(intrinsics).shape == (60, 80, 2)


def test_binning_and_region_of_interest_lead_to_the_rays_of_the_full_sensor() -> None:
    model, coefficients = MODELS["rational of 8"]
    full = CameraIntrinsics(
        height=480,
        width=640,
        fx=500.0,
        fy=510.0,
        cx=330.0,
        cy=236.0,
        distortion_model=model,
        distortion=coefficients,
    )
    info = SimpleNamespace(
        height=480,
        width=640,
        k=camera_matrix(full).ravel(),
        d=coefficients,
        p=np.zeros(12),
        distortion_model=model,
        binning_x=2,
        binning_y=2,
        roi=SimpleNamespace(x_offset=100, y_offset=60, height=80, width=120),
    )
    intrinsics = intrinsics_from_camera_info(info, (40, 60))
    pixels = pixel_centres(40, 60) * 2 + (100, 60)
    expected = rays_through(full, pixels).reshape(40, 60, 2)
    np.testing.assert_allclose(camera_rays(intrinsics), expected, atol=1e-6)
