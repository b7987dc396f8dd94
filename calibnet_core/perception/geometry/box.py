"""The oriented box of a visible surface."""

from __future__ import annotations

import itertools
import math

import cv2
import numpy as np
from numpy.typing import NDArray

_Array = NDArray[np.float64]

_CANDIDATES = 48
_VOTERS = 400
_FLAT_SHARE = 0.25
"""A plane with so many of the points is a face of the object."""
_FLATNESS = 0.8
"""Of the points within twice the tolerance, so many lie within the tolerance of a face. A sphere
has half of them there, a cylinder seven tenths."""
_CLEAR_GAIN = 0.02
_STEEP_FACE = 0.7


def _axis_names() -> _Array:
    """(24, 3, 3): all proper rotations of a box onto itself."""
    named = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            candidate = np.zeros((3, 3))
            candidate[list(order), range(3)] = signs
            if np.linalg.det(candidate) > 0.0:
                named.append(candidate)
    return np.stack(named)


_UNIT = np.eye(3)
_AXIS_NAMES = _axis_names()


def orient_box(
    surface: _Array, outline: _Array, spread: _Array, face: _Array | None, up: _Array | None
) -> _Array:
    """Choose the axes of the box.

    One axis is `up` where that is given; else the normal of the object's largest flat face; else,
    for curved objects, the direction in which the points spread least. Seen along that axis, the
    other two follow the rectangle of least area.

    Args:
        surface: (3, N) points without noise, relative to their mean.
        outline: (3, R) points on the object's edge, relative to the same.
        spread: (3, 3) covariance of the points.
        face: (3,) normal of the largest flat face, if there is one.
        up: (3,) unit vector that one axis shall keep to.

    Returns:
        (3, 3) right-handed; the columns are the axes.
    """
    if up is not None:
        axis = up
    elif face is not None:
        axis = face
    else:
        axis = cv2.eigen(spread)[2][2]
    across = None
    if up is not None and face is not None:
        # Two upright sides look like a triangle from above, which two rectangles fit equally.
        level = face - (face @ up) * up
        length = float(np.linalg.norm(level))
        across = level / length if length > _STEEP_FACE else None
    if across is None:
        across = _side_of_least_rectangle(surface, outline, axis)
    return _nearest_to_camera(np.stack([across, _cross(axis, across), axis], axis=1))


def box_extents(surface: _Array, outline: _Array, rotation: _Array) -> tuple[_Array, _Array]:
    """Centre and full extents, (3,) each, of the box around the points along given axes.

    Args:
        surface: (3, N) points without noise.
        outline: (3, R) points on the object's edge.
        rotation: (3, 3); the columns are the axes.
    """
    low, high = _range(rotation.T @ surface, 200)
    if outline.shape[1]:
        outer_low, outer_high = _range(rotation.T @ outline, 100)
        low, high = np.minimum(low, outer_low), np.maximum(high, outer_high)
    return rotation @ ((low + high) / 2.0), high - low


def largest_face(surface: _Array, normals: _Array, spread: _Array, noise_m: float) -> _Array | None:
    """Unit normal of the plane that holds most of the points, if it is a face and no mere tangent.

    Args:
        surface: (3, N) points without noise, relative to their mean.
        normals: (3, N) unit normals of the surface there.
        spread: (3, 3) covariance of the points.
        noise_m: standard deviation of one reading, metres.
    """
    count = surface.shape[1]
    candidates = slice(None, None, -(-count // _CANDIDATES))
    voters = surface[:, :: -(-count // _VOTERS)]
    tolerance = max(1.25 * noise_m, 0.004 * math.sqrt(float(np.trace(spread))))
    direction = normals[:, candidates]
    height = (direction * surface[:, candidates]).sum(axis=0)
    votes = np.count_nonzero(np.abs(direction.T @ voters - height[:, None]) < tolerance, axis=1)
    best = int(votes.argmax())
    normal, offset = direction[:, best], float(height[best])
    for _ in range(2):
        members = surface[:, np.abs(normal @ surface - offset) < tolerance]
        if members.shape[1] < 3:
            return None
        middle = members.sum(axis=1) / members.shape[1]
        moment = members @ members.T / members.shape[1] - middle[:, None] * middle
        normal = cv2.eigen(moment)[2][2]
        offset = float(normal @ middle)
    distance = np.abs(normal @ surface - offset)
    near, around = (np.count_nonzero(distance < reach) for reach in (tolerance, 2.0 * tolerance))
    is_face = near >= _FLAT_SHARE * count and near >= _FLATNESS * around
    return normal if is_face else None


def _range(along: _Array, share: int) -> tuple[_Array, _Array]:
    """Least and greatest value of each row of (3, N), but for one in `share` at either end."""
    left_out = along.shape[1] // share
    if not left_out:
        return along.min(axis=1), along.max(axis=1)
    last = along.shape[1] - 1 - left_out
    ordered = np.partition(along, (left_out, last), axis=1)
    return ordered[:, left_out], ordered[:, last]


def _side_of_least_rectangle(surface: _Array, outline: _Array, axis: _Array) -> _Array:
    """Unit vector along one side of the rectangle of least area around the points, seen along axis.

    Round shapes fit all rectangles alike; they keep to the image's horizontal.
    """
    # The image's horizontal, or its vertical where that is what is looked along.
    reference: _Array = _UNIT[0 if abs(axis[0]) < 0.8 else 1]
    reference = reference - (reference @ axis) * axis
    reference /= math.sqrt(float(reference @ reference))
    other = _cross(axis, reference)
    basis = np.stack([reference, other])
    flat = np.concatenate([basis @ surface, basis @ outline], axis=1).T.astype(np.float32)
    hull = cv2.convexHull(flat)[:, 0]
    _, size, degrees = cv2.minAreaRect(hull)
    plain = np.ptp(hull, axis=0)
    if size[0] * size[1] > (1.0 - _CLEAR_GAIN) * float(plain[0] * plain[1]):
        return reference
    angle = math.radians(degrees)
    return np.array(math.cos(angle) * reference + math.sin(angle) * other)


def _nearest_to_camera(rotation: _Array) -> _Array:
    """The same box with its axes named and signed to turn least from the camera's."""
    named = rotation @ _AXIS_NAMES
    return np.array(named[np.trace(named, axis1=1, axis2=2).argmax()], np.float64)


def _cross(a: _Array, b: _Array) -> _Array:
    # Many times faster than numpy's for a single pair.
    (ax, ay, az), (bx, by, bz) = a.tolist(), b.tolist()
    return np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])
