"""The faults of depth cameras, one function each: what is not measured, and what is measured wrong.

Those that lose pixels return an (H, W) mask of them. Geometry is read from inverse depth, (H, W)
float32 in 1/m with 0 where there is no surface: a plane is linear in it, so differences between
neighbours tell an edge from a slope.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from calibnet_core.structures import CameraIntrinsics

Map = NDArray[np.float32]
Lost = NDArray[np.bool_]

_RIM = 0.06  # jump of depth, as a share of it, that is an outline to block matching


def inverse_depth(depth_m: Map) -> Map:
    """1 / depth, (H, W) float32, and 0 where `depth_m` is not finite or not above 0."""
    measured = np.isfinite(depth_m) & (depth_m > 0.0)
    inverse: Map = np.divide(1.0, depth_m, out=np.zeros(depth_m.shape, np.float32), where=measured)
    return inverse


def smooth_noise(rng: np.random.Generator, size: tuple[int, int], cell_px: float) -> Map:
    """Noise whose values agree over about `cell_px` pixels.

    Args:
        rng: where it comes from.
        size: (height, width).
        cell_px: distance of the random values that are interpolated; 1 and less is white noise.

    Returns:
        `size` float32, scaled to a root mean square of 1.
    """
    height, width = size
    cell = max(cell_px, 1.0)
    # A cell more than fits, cut at a random place: the lattice differs between pictures.
    rows, columns = (int(np.ceil(extent / cell)) + 1 for extent in size)
    noise = rng.standard_normal((rows, columns), dtype=np.float32)
    left, top = (int(start) for start in rng.random(2) * (cell - 1.0))
    if cell > 1.0:
        whole = (int(np.ceil(columns * cell)), int(np.ceil(rows * cell)))
        # Cubic: linear interpolation makes holes with four points.
        noise = np.asarray(cv2.resize(noise, whole, interpolation=cv2.INTER_CUBIC), np.float32)
    noise = noise.reshape(noise.shape[:2])[top : top + height, left : left + width]
    scale = float(np.sqrt(np.mean(np.square(noise))))
    scaled: Map = noise * np.float32(1.0 / max(scale, 1e-6))
    return scaled


def hidden_from(inverse: Map, focal_px: float, offset_m: float) -> Lost:
    """Which points a second device beside the camera does not see, because something is before it.

    Things are taken to be solid: what is seen from the front stands in the way all along its depth.
    Beside a near edge the lost band is focal length x offset x difference of inverse depth wide.

    Args:
        inverse: (H, W) inverse depth seen by the camera.
        focal_px: horizontal focal length of the camera.
        offset_m: position of the device along the camera's x axis, right above 0.
    """
    # Column at which the device, with the same optics, would see the point. Each row must be met
    # in order, seen from the device's side: what falls behind an earlier one lies in its shadow.
    columns = np.arange(inverse.shape[1], dtype=np.float32)
    seen_at = columns - np.float32(focal_px * offset_m) * inverse
    if offset_m > 0.0:
        nearest = np.minimum.accumulate(seen_at[:, ::-1], axis=1)[:, ::-1]
        return np.asarray(seen_at > nearest)
    return np.asarray(seen_at < np.maximum.accumulate(seen_at, axis=1))


def incidence_cosine(inverse: Map, intrinsics: CameraIntrinsics) -> Map:
    """Cosine of the angle between ray and surface normal.

    At an edge the smoother side decides, so that an outline does not read as a slope.

    Returns:
        (H, W) float32 in (0, 1]; 1 where there is no surface.
    """
    height, width = inverse.shape
    x = ((np.arange(width) - intrinsics.cx) / intrinsics.fx).astype(np.float32)
    y = ((np.arange(height) - intrinsics.cy) / intrinsics.fy).astype(np.float32)[:, None]
    # A plane's inverse depth is a linear form in (x, y, 1), and that form is its normal.
    normal_x = _lesser_slope(inverse, axis=1) * np.float32(intrinsics.fx)
    normal_y = _lesser_slope(inverse, axis=0) * np.float32(intrinsics.fy)
    normal_z = inverse - x * normal_x - y * normal_y
    length = normal_x * normal_x + normal_y * normal_y + normal_z * normal_z
    length *= x * x + (y * y + np.float32(1.0))
    cosine: Map = np.divide(
        inverse, np.sqrt(length), out=np.ones_like(inverse), where=inverse > 0.0
    )
    return cosine


def _lesser_slope(values: Map, *, axis: int) -> Map:
    """Difference to the neighbour before or after, whichever is smaller in size."""
    step = np.diff(values, axis=axis)
    if step.shape[axis] == 0:
        return np.zeros_like(values)
    first, last = (step[:, :1], step[:, -1:]) if axis == 1 else (step[:1], step[-1:])
    before = np.concatenate([first, step], axis=axis)
    after = np.concatenate([step, last], axis=axis)
    return np.where(np.abs(before) < np.abs(after), before, after)


def depth_edges(inverse: Map, tolerance: float = 0.03) -> Lost:
    """Pixels beside a jump of depth, on both of its sides.

    Args:
        inverse: (H, W) inverse depth; the end of all surface is a jump too.
        tolerance: bend of the inverse depth from pixel to pixel, as a share of it, that is a jump.
    """
    edges = np.zeros(inverse.shape, bool)
    for axis in (0, 1):
        values = inverse if axis == 0 else inverse.T
        marks = edges if axis == 0 else edges.T
        if len(values) > 2:
            middle = values[1:-1]
            bend = np.abs(values[:-2] + values[2:] - middle - middle)
            largest = np.maximum(np.maximum(values[:-2], values[2:]), middle)
            marks[1:-1] |= bend > np.float32(tolerance) * largest
    return edges


def beside_edges(edges: Lost, radius_px: Map | float) -> Lost:
    """Pixels less than `radius_px` (one number, or (H, W)) away from an edge pixel."""
    if not edges.any():
        return np.zeros(edges.shape, bool)
    distance = cv2.distanceTransform((~edges).astype(np.uint8), cv2.DIST_L2, 3)
    return np.asarray(distance < radius_px)


def too_weak(signal: Map, limit: float, noise: Map | float) -> Lost:
    """Where too little light comes back.

    Args:
        signal: (H, W) share of what a white surface returns that faces the camera 1 m away.
        limit: least signal that is measured.
        noise: spread of the limit in factors of e.
    """
    return np.asarray(signal < np.float32(limit) * np.exp(noise))


def blobs(rng: np.random.Generator, size: tuple[int, int], share: float, cell_px: float) -> Lost:
    """Blotches about `cell_px` wide that cover `share`, in [0, 1], of the image on average."""
    if share <= 0.0:
        return np.zeros(size, bool)
    if share >= 1.0:
        return np.ones(size, bool)
    # The finer part makes the outlines irregular.
    noise = smooth_noise(rng, size, cell_px)
    noise += np.float32(0.6) * smooth_noise(rng, size, cell_px / 3.0)
    sample = noise[:: max(1, size[0] // 64), :: max(1, size[1] // 64)]
    return np.asarray(noise > np.quantile(sample, 1.0 - share))


def speckle(rng: np.random.Generator, size: tuple[int, int], share: float) -> Lost:
    """Single pixels strewn over `share`, in [0, 1], of the image on average."""
    lost = np.zeros(size, bool)
    count = rng.binomial(lost.size, share)
    lost.reshape(-1)[rng.integers(0, lost.size, count)] = True
    return lost


def border(size: tuple[int, int], widths_px: tuple[float, float, float, float]) -> Lost:
    """Bands of the given widths along the left, top, right and bottom side."""
    left, top, right, bottom = (round(width) for width in widths_px)
    height, width = size
    lost = np.ones(size, bool)
    lost[top : max(height - bottom, 0), left : max(width - right, 0)] = False
    return lost


def add_noise(
    depth_m: Map, spread: Map, power: float, cell_px: float, rng: np.random.Generator
) -> Map:
    """Depth with errors along the ray, which neighbours share.

    Args:
        depth_m: (H, W) metres, NaN where unknown.
        spread: (H, W) of the error in metres at 1 m.
        power: of depth with which the error grows.
        cell_px: how far neighbours agree.
        rng: of the noise.

    Returns:
        (H, W) float32 metres, above 0.
    """
    error = smooth_noise(rng, (depth_m.shape[0], depth_m.shape[1]), cell_px) * spread
    error *= depth_m * depth_m if power == 2.0 else np.power(depth_m, np.float32(power))
    error += depth_m
    return np.asarray(np.maximum(error, np.float32(1e-3)))


def quantise_disparity(depth_m: Map, step_m: float) -> Map:
    """Depth that belongs to a whole number of disparity steps.

    Args:
        depth_m: (H, W) metres, NaN where unknown.
        step_m: difference of depth between two numbers at 1 m: disparity step in pixels over focal
            length in pixels and baseline in metres. It is step_m z² at depth z.

    Returns:
        (H, W) float32 metres.
    """
    steps = np.rint(np.float32(1.0 / step_m) / depth_m)
    return np.asarray(np.float32(1.0 / step_m) / np.maximum(steps, np.float32(1.0)))


def round_to_step(depth_m: Map, step_m: float) -> Map:
    """Metres as whole steps, (H, W) float32; what is not above 0 becomes NaN."""
    steps = np.rint(depth_m * np.float32(1.0 / step_m))
    # Divided, not multiplied: so are the numbers of a file of whole millimetres.
    rounded = steps / np.float32(round(1.0 / step_m))
    rounded[~(steps > 0.0) | ~np.isfinite(steps)] = np.nan
    return np.asarray(rounded, np.float32)


def fatten_foreground(depth_m: Map, radius_px: float, rng: np.random.Generator) -> Map:
    """Outlines as matching blocks leaves them: grown in some places, eaten away in others.

    Args:
        depth_m: (H, W) metres, NaN where unknown; near surfaces grow over unknown ones too.
        radius_px: how far outlines move.
        rng: of the places.
    """
    size = (depth_m.shape[0], depth_m.shape[1])
    filled = np.where(np.isnan(depth_m), np.float32(np.inf), depth_m)
    kernel = _disc(radius_px)
    near, far = cv2.erode(filled, kernel), cv2.dilate(filled, kernel)
    place = smooth_noise(rng, size, 5.0 * radius_px)
    grows = (place > 0.0) & (near < np.float32(1.0 - _RIM) * filled)
    shrinks = (place < -1.0) & (far > np.float32(1.0 + _RIM) * filled)
    out = np.where(grows, near, np.where(shrinks, far, filled))
    out = cv2.medianBlur(out, 3)
    # The middle one of nine is a measured value, but may have come from beside an unknown pixel.
    return np.where(np.isinf(out), np.float32(np.nan), out)


def mix_flying_pixels(
    depth_m: Map, edges: Lost, share: float, rng: np.random.Generator, reach_px: float = 1.0
) -> Map:
    """Depth with pixels at edges put somewhere between what is before and behind.

    Args:
        depth_m: (H, W) metres, NaN where unknown; unknown pixels stay so.
        edges: (H, W) pixels beside a jump.
        share: of the edge pixels that fly.
        rng: of which and where.
        reach_px: how far before and behind are looked for.
    """
    out = depth_m.copy()
    kernel = _disc(reach_px)
    unknown = np.isnan(depth_m)
    near = cv2.erode(np.where(unknown, np.float32(np.inf), depth_m), kernel)
    far = cv2.dilate(np.where(unknown, np.float32(-np.inf), depth_m), kernel)
    places = np.flatnonzero(edges & ~unknown)
    places = places[rng.random(len(places)) < share]
    weight = rng.random(len(places), dtype=np.float32)
    front, back = near.reshape(-1)[places], far.reshape(-1)[places]
    out.reshape(-1)[places] = front + (back - front) * weight
    return out


def look_up(depth_m: Map, x: Map, y: Map) -> Map:
    """Depth of the pixels nearest to (x, y), each (H, W); NaN for those outside the image.

    Every value is one of `depth_m`: nothing is interpolated.
    """
    found = cv2.remap(
        depth_m,
        x,
        y,
        cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(math.nan,) * 4,
    )
    return np.asarray(found, np.float32).reshape(depth_m.shape)


def _disc(radius_px: float) -> NDArray[np.uint8]:
    width = 2 * max(1, round(radius_px)) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)), np.uint8)
