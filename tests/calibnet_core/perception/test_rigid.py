from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calibnet_core.perception.geometry import GeometryStatus, ObjectGeometry
from calibnet_core.perception.rigid import RigidTransform
from tests.support.perceptions import discs, known_geometry, make_perception

# A camera that looks along the base's x axis, half a metre above the ground: optical z is the
# base's x, optical x its -y, optical y its -z.
LOOKING_AHEAD = RigidTransform.from_quaternion((0.1, 0.0, 0.5), (-0.5, 0.5, -0.5, 0.5))

numbers = st.floats(-3.0, 3.0)
turns = arrays(np.float64, 4, elements=numbers).filter(lambda q: np.linalg.norm(q) > 0.1)
transforms = st.builds(
    lambda shift, turn: RigidTransform.from_quaternion(tuple(shift), tuple(turn)),
    arrays(np.float64, 3, elements=numbers),
    turns,
)


def corners(geometry: ObjectGeometry) -> np.ndarray:
    """(8, 3) of the box."""
    signs = np.array(list(itertools.product((-0.5, 0.5), repeat=3)))
    return geometry.box_center + (signs * geometry.box_size) @ geometry.box_rotation.T


def test_an_object_ahead_of_the_camera_is_ahead_of_the_robot() -> None:
    seen = known_geometry()
    moved = LOOKING_AHEAD.geometry(seen)
    x, y, z = seen.centroid
    np.testing.assert_allclose(moved.centroid, [0.1 + z, -x, 0.5 - y], atol=1e-12)
    # Spread along the optical axis becomes spread along the base's x axis.
    np.testing.assert_allclose(
        np.diag(moved.covariance), np.diag(seen.covariance)[[2, 0, 1]], atol=1e-12
    )
    np.testing.assert_allclose(moved.covariance[0, 1], -seen.covariance[2, 0], atol=1e-12)
    np.testing.assert_allclose(LOOKING_AHEAD.up, [0.0, -1.0, 0.0], atol=1e-12)


@given(transforms, st.integers(0, 1000))
def test_the_box_moves_with_the_frame_and_keeps_its_size(transform, seed) -> None:
    seen = known_geometry(seed)
    moved = transform.geometry(seen)
    expected = corners(seen) @ transform.rotation.T + transform.translation
    np.testing.assert_allclose(corners(moved), expected, atol=1e-9)
    assert np.linalg.det(moved.box_rotation) == pytest.approx(1.0)
    for kept in ("box_size", "depth_median_m", "depth_near_m", "depth_far_m", "surface_area_m2"):
        assert getattr(moved, kept) is getattr(seen, kept)
    # How far an error reaches does not depend on the frame, so its share along the way stays.
    way = seen.centroid - seen.box_center
    assert (transform.rotation @ way) @ moved.covariance @ (
        transform.rotation @ way
    ) == pytest.approx(way @ seen.covariance @ way)


@given(turns, st.floats(1e-3, 1e3), numbers)
def test_a_quaternions_length_and_sign_are_of_no_account(turn, length, shift) -> None:
    one = RigidTransform.from_quaternion((shift, 0.0, 0.0), tuple(turn))
    same = RigidTransform.from_quaternion((shift, 0.0, 0.0), tuple(-turn * length))
    np.testing.assert_allclose(one.rotation, same.rotation, atol=1e-9)
    np.testing.assert_array_equal(one.translation, [shift, 0.0, 0.0])
    np.testing.assert_allclose(one.rotation @ one.up, [0.0, 0.0, 1.0], atol=1e-9)


@pytest.mark.parametrize("status", [s for s in GeometryStatus if s != GeometryStatus.OK])
def test_what_was_not_measured_stays_as_it_is(status) -> None:
    absent = ObjectGeometry(status=status, depth_median_m=1.0)
    assert LOOKING_AHEAD.geometry(absent) is absent


def test_a_perception_moves_with_all_its_objects_and_names_the_frame() -> None:
    absent = ObjectGeometry(status=GeometryStatus.TOO_FEW_POINTS)
    perception = make_perception(discs((20, 30), 2), geometry=[known_geometry(), absent])
    moved = LOOKING_AHEAD.perception(perception, "base_link")
    assert moved.frame.frame_id == "base_link"
    assert moved.frame.stamp_ns == perception.frame.stamp_ns
    first = LOOKING_AHEAD.geometry(perception.geometry[0])
    np.testing.assert_array_equal(moved.geometry[0].centroid, first.centroid)
    assert moved.geometry[1] is absent
    assert moved.instances is perception.instances
    assert perception.frame.frame_id != "base_link"


@pytest.mark.parametrize(
    ("translation", "quaternion"),
    [
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0)),
        ((0.0, 0.0, 0.0), (np.inf, 0.0, 0.0, 1.0)),
        ((0.0, 0.0, 0.0), (0.0, np.nan, 0.0, 1.0)),
        ((np.nan, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0)),
    ],
)
def test_a_transform_that_is_none_is_refused(translation, quaternion) -> None:
    with pytest.raises(ValueError, match=r"not all finite|zero norm"):
        RigidTransform.from_quaternion(translation, quaternion)
