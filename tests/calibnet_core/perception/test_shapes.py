"""Boxes and ellipsoids for display."""

from __future__ import annotations

import itertools
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from calibnet_core.perception.geometry import GeometryStatus, ObjectGeometry
from calibnet_core.perception.shapes import (
    box_edges,
    box_outline,
    box_top_m,
    distance_m,
    quaternions,
    spread_ellipsoid,
)
from tests.support.perceptions import DISTORTION, camera, known_geometry

SIZE = (120, 160)


@given(st.integers(0, 2**31))
def test_a_quaternion_turns_as_its_matrix_does_and_comes_in_one_form(seed):
    rotation = Rotation.random(random_state=seed).as_matrix()
    half_turn = np.diag([-1.0, -1.0, 1.0])
    for matrix, (x, y, z, w) in zip(
        (rotation, half_turn), quaternions([rotation, half_turn]), strict=True
    ):
        assert x * x + y * y + z * z + w * w == pytest.approx(1.0, abs=1e-12)
        assert w >= 0
        # The rotation matrix of a quaternion, written out.
        written = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
        np.testing.assert_allclose(written, matrix, atol=1e-9)
    assert quaternions([]).shape == (0, 4)


@given(st.integers(0, 2**31))
def test_the_ellipsoid_of_a_covariance_gives_it_back(seed):
    factor = np.random.default_rng(seed).normal(size=(3, 3))
    covariance = factor @ factor.T
    axes, sigmas = spread_ellipsoid(covariance)
    np.testing.assert_allclose(axes * sigmas**2 @ axes.T, covariance, atol=1e-9)
    assert np.linalg.det(axes) == pytest.approx(1.0)
    assert (sigmas >= 0).all()


def test_a_box_has_twelve_edges_between_its_corners():
    geometry = known_geometry(3)
    corners = [
        geometry.box_center + geometry.box_rotation @ (geometry.box_size * signs / 2)
        for signs in np.array(list(itertools.product((-1, 1), repeat=3)))
    ]
    edges = box_edges(geometry)
    lengths = np.linalg.norm(edges[:, 1] - edges[:, 0], axis=1)
    np.testing.assert_allclose(sorted(lengths), np.repeat(sorted(geometry.box_size), 4))
    ends = np.unique(edges.reshape(-1, 3).round(9), axis=0)
    np.testing.assert_allclose(ends, np.unique(np.array(corners).round(9), axis=0), atol=1e-9)
    assert box_top_m(geometry) == pytest.approx(min(corner[1] for corner in corners))


@pytest.mark.parametrize("distortion", [(), DISTORTION])
def test_edges_are_drawn_where_the_lens_shows_them(distortion):
    geometry, k = known_geometry(5), camera(SIZE, distortion)
    lines = box_outline(geometry, k)
    assert len(lines) == 12
    matrix = np.array([[k.fx, 0, k.cx], [0, k.fy, k.cy], [0, 0, 1.0]])
    lens = np.array(distortion if distortion else np.zeros(5))
    for line, (start, end) in zip(lines, box_edges(geometry), strict=True):
        middle = (start + end) / 2
        expected, _ = cv2.projectPoints(
            np.array([start, middle, end]), np.zeros(3), np.zeros(3), matrix, lens
        )
        np.testing.assert_allclose(
            line[[0, len(line) // 2, -1]], expected.reshape(-1, 2), atol=1e-6
        )


@pytest.mark.parametrize("distortion", [(), DISTORTION])
def test_of_a_box_around_the_camera_only_what_lies_ahead_is_drawn(distortion):
    around = replace(
        known_geometry(), box_center=np.array([0.1, 0.0, 0.5]), box_size=np.full(3, 3.0)
    )
    lines = box_outline(around, camera(SIZE, distortion))
    drawn = np.concatenate([*lines, np.zeros((0, 2))])
    # A quarter beyond the corners and no more, where a folding lens would bring lines back.
    assert np.isfinite(drawn).all()
    assert np.hypot(*(drawn - (SIZE[1] / 2, SIZE[0] / 2)).T).max() < 1.3 * np.hypot(*SIZE) / 2
    behind = replace(around, box_center=np.array([0.0, 0.0, -4.0]))
    assert box_outline(behind, camera(SIZE, distortion)) == []


def test_unknown_geometry_has_no_box_and_no_distance():
    unknown = ObjectGeometry(status=GeometryStatus.TOO_FEW_POINTS)
    assert box_outline(unknown, camera(SIZE)) == []
    assert box_outline(replace(known_geometry(), status=unknown.status), camera(SIZE)) == []
    assert np.isnan(distance_m(unknown))
    near = replace(known_geometry(), centroid=np.array([0.3, 0.0, 0.4]))
    assert distance_m(near) == pytest.approx(0.5)
