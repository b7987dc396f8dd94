"""Depth as real RGB-D cameras report it, registered to colour, made from a scene's exact depth.

Three ways to measure: a projected pattern seen by one imager (Kinect v1, Xtion), two imagers
(RealSense D400), and the time that light takes (Kinect v2, Azure Kinect). Sizes in pixels are those
of an image 640 wide and grow with the image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from calibnet_core.data.scenes.sensors.depth_faults import (
    Lost,
    Map,
    add_noise,
    beside_edges,
    blobs,
    border,
    depth_edges,
    fatten_foreground,
    hidden_from,
    incidence_cosine,
    inverse_depth,
    look_up,
    mix_flying_pixels,
    quantise_disparity,
    round_to_step,
    smooth_noise,
    speckle,
    too_weak,
)
from calibnet_core.structures import CameraIntrinsics

SensorKind = Literal["structured_light", "active_stereo", "time_of_flight", "ideal"]

_SHARES: dict[SensorKind, float] = {
    "structured_light": 0.45,
    "active_stereo": 0.28,
    "time_of_flight": 0.22,
    "ideal": 0.05,
}
_REFERENCE_WIDTH = 640.0
_DULL = 0.5  # reflectance taken where none is given


@dataclass(frozen=True, kw_only=True)
class DepthSensor:
    """A depth camera and how it is joined to the colour image. The defaults measure everything.

    Attributes:
        kind: how it measures.
        range_m: least and greatest depth that it reports.
        step_m: of the reported numbers.
        disparity_step_m: depth step at 1 m that comes from counting disparity; 0 for none. The
            step grows with the square of depth.
        noise_m: spread along the ray at 1 m, facing the camera.
        noise_power: the power of depth with which noise grows.
        noise_cell_px: how far noise agrees between neighbours.
        viewpoints_m: x of imager and emitter or second imager, seen from the colour camera, right
            above 0; a point must be seen from all.
        signal_limit: least light returned, as a share of a white surface's at 1 m.
        glare_limit: greatest light returned.
        grazing_cosine: surfaces seen flatter than this are lost.
        edge_loss_px: width of what is lost beside edges.
        fattening_px: how far near surfaces grow over far ones, here and there.
        flying_share: share of edge pixels that lie between front and back.
        jitter_px: how far edges wobble.
        shift_px: (x, y) by which depth is off colour.
        scale: of depth against colour, about the principal point.
        torn_share, torn_px: share of the image that is shifted by so much more.
        blob_share, blob_px: share and width of holes without a cause.
        speckle_share: share of single pixels lost.
        border_px: left, top, right and bottom bands without depth.
    """

    kind: SensorKind
    range_m: tuple[float, float] = (0.0, math.inf)
    step_m: float = 0.001
    disparity_step_m: float = 0.0
    noise_m: float = 0.0
    noise_power: float = 2.0
    noise_cell_px: float = 4.0
    viewpoints_m: tuple[float, ...] = ()
    signal_limit: float = 0.0
    glare_limit: float = math.inf
    grazing_cosine: float = 0.0
    edge_loss_px: float = 0.0
    fattening_px: float = 0.0
    flying_share: float = 0.0
    jitter_px: float = 0.0
    shift_px: tuple[float, float] = (0.0, 0.0)
    scale: float = 1.0
    torn_share: float = 0.0
    torn_px: float = 0.0
    blob_share: float = 0.0
    blob_px: float = 12.0
    speckle_share: float = 0.0
    border_px: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


def sample_sensor(rng: np.random.Generator, kind: SensorKind | None = None) -> DepthSensor:
    """A sensor whose figures lie about those of real devices.

    Args:
        rng: decides.
        kind: of sensor; drawn when left out.
    """
    if kind is None:
        kinds = tuple(_SHARES)
        kind = kinds[int(rng.choice(len(kinds), p=np.array(tuple(_SHARES.values()))))]
    if kind == "structured_light":
        return _sample_structured_light(rng)
    if kind == "active_stereo":
        return _sample_active_stereo(rng)
    if kind == "time_of_flight":
        return _sample_time_of_flight(rng)
    return DepthSensor(kind="ideal")


def observe(
    depth_m: Map,
    intrinsics: CameraIntrinsics,
    sensor: DepthSensor,
    rng: np.random.Generator,
    *,
    reflectance: Map | None = None,
) -> Map:
    """What the sensor reports of a scene.

    Args:
        depth_m: (H, W) float32 exact metres along the optical axis, NaN where there is no surface.
        intrinsics: of the colour image, which `depth_m` belongs to.
        sensor: that looks.
        rng: of noise and random holes.
        reflectance: (H, W) float32 in [0, 1], share of light that comes back; medium when left out.

    Returns:
        (H, W) float32 metres, NaN where nothing was measured.
    """
    if sensor.kind == "ideal":
        return round_to_step(depth_m, sensor.step_m)
    unit = depth_m.shape[1] / _REFERENCE_WIDTH
    inverse = inverse_depth(depth_m)
    depth = np.where(inverse > 0.0, depth_m, np.float32(np.nan))
    cosine = incidence_cosine(inverse, intrinsics)
    light = cosine * (np.float32(_DULL) if reflectance is None else reflectance)
    signal = light * np.minimum(inverse * inverse, np.float32(100.0))
    edges = depth_edges(inverse)
    lost = _lose_light(sensor, signal, cosine, rng, unit)
    lost |= _lose_edges(sensor, inverse, edges, intrinsics, rng, unit)

    spread = _spread(sensor, cosine, signal)
    depth = add_noise(depth, spread, sensor.noise_power, sensor.noise_cell_px * unit, rng)
    depth[lost] = np.nan
    if sensor.fattening_px > 0.0:
        depth = fatten_foreground(depth, sensor.fattening_px * unit, rng)
    if sensor.flying_share > 0.0:
        depth = mix_flying_pixels(depth, edges, sensor.flying_share, rng, unit)
    if sensor.disparity_step_m > 0.0:
        depth = quantise_disparity(depth, sensor.disparity_step_m)
    depth = look_up(depth, *_displaced(sensor, intrinsics, depth.shape[:2], rng))

    size = (depth.shape[0], depth.shape[1])
    with np.errstate(invalid="ignore"):
        gone = (depth < sensor.range_m[0]) | (depth > sensor.range_m[1])
    gone |= blobs(rng, size, sensor.blob_share, sensor.blob_px * unit)
    gone |= speckle(rng, size, sensor.speckle_share)
    left, top, right, bottom = (width * unit for width in sensor.border_px)
    gone |= border(size, (left, top, right, bottom))
    depth[gone] = np.nan
    return round_to_step(depth, sensor.step_m)


def _lose_light(
    sensor: DepthSensor, signal: Map, cosine: Map, rng: np.random.Generator, unit: float
) -> Lost:
    """What reflects too little, too much, or is seen too flat."""
    size = (signal.shape[0], signal.shape[1])
    # Both a ragged rim and regions that go as one: a black table loses depth in patches.
    uneven = np.float32(0.25) * smooth_noise(rng, size, 5.0 * unit)
    uneven += np.float32(0.3) * smooth_noise(rng, size, 60.0 * unit)
    lost = too_weak(signal, sensor.signal_limit, uneven)
    lost |= cosine < np.float32(sensor.grazing_cosine) * (np.float32(1.0) + uneven)
    if math.isfinite(sensor.glare_limit):
        lost |= signal > np.float32(sensor.glare_limit) * np.exp(uneven)
    return lost


def _lose_edges(
    sensor: DepthSensor,
    inverse: Map,
    edges: Lost,
    intrinsics: CameraIntrinsics,
    rng: np.random.Generator,
    unit: float,
) -> Lost:
    """What one of the devices does not see, and what lies too close to an edge."""
    lost = np.zeros(inverse.shape, bool)
    for offset in sensor.viewpoints_m:
        if offset != 0.0:
            lost |= hidden_from(inverse, intrinsics.fx, offset)
    if sensor.edge_loss_px > 0.0:
        size = (inverse.shape[0], inverse.shape[1])
        radius = smooth_noise(rng, size, 8.0 * unit)
        radius *= np.float32(0.7 * sensor.edge_loss_px * unit)
        radius += np.float32(0.7 * sensor.edge_loss_px * unit)
        lost |= beside_edges(edges, radius)
    return lost


def _spread(sensor: DepthSensor, cosine: Map, signal: Map) -> Map:
    """Noise along the ray at 1 m, (H, W) metres; more on slanted surfaces."""
    flatness = np.sqrt(np.maximum(cosine, np.float32(0.1)))
    spread: Map = np.asarray(np.float32(sensor.noise_m) / flatness)
    if sensor.kind == "time_of_flight":
        # Light that is counted is noisier where there is little; a matched pattern is not.
        spread *= np.sqrt(np.float32(0.3) / np.clip(signal, np.float32(0.03), np.float32(0.3)))
    return spread


def _displaced(
    sensor: DepthSensor,
    intrinsics: CameraIntrinsics,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[Map, Map]:
    """(x, y), each (H, W) float32: from where in the image each pixel gets its depth."""
    (height, width), unit = size, size[1] / _REFERENCE_WIDTH
    shift_x, shift_y = (shift * unit for shift in sensor.shift_px)
    columns = (np.arange(width) - intrinsics.cx) / sensor.scale + intrinsics.cx - shift_x
    rows = (np.arange(height) - intrinsics.cy) / sensor.scale + intrinsics.cy - shift_y
    x: Map = np.tile(columns.astype(np.float32), (height, 1))
    y: Map = np.repeat(rows.astype(np.float32)[:, None], width, axis=1)
    if sensor.jitter_px > 0.0:
        amount = np.float32(sensor.jitter_px * unit)
        x += amount * smooth_noise(rng, size, 3.0 * unit)
        y += amount * smooth_noise(rng, size, 3.0 * unit)
    if sensor.torn_share > 0.0:
        x[blobs(rng, size, sensor.torn_share, 15.0 * unit)] -= np.float32(sensor.torn_px * unit)
    return x, y


def _sample_structured_light(rng: np.random.Generator) -> DepthSensor:
    """Kinect v1 and its kin: eighths of a pixel at 580 px and 75 mm, shadows on both sides."""
    is_smoothed = rng.random() < 0.3
    near = rng.uniform(0.35, 0.55)
    scale = rng.uniform(0.85, 1.15) * (-1.0 if rng.random() < 0.2 else 1.0)
    return replace(
        _sample_common(rng, "structured_light"),
        range_m=(near, rng.uniform(3.5, 6.0)),
        disparity_step_m=0.0029 * rng.uniform(0.8, 1.2) * (0.2 if is_smoothed else 1.0),
        noise_m=_log_uniform(rng, 0.0004, 0.002),
        noise_cell_px=rng.uniform(3.0, 8.0),
        viewpoints_m=(0.05 * scale, -0.025 * scale),
        signal_limit=_log_uniform(rng, 0.003, 0.05),
        glare_limit=_log_uniform(rng, 1.5, 6.0) if rng.random() < 0.3 else math.inf,
        grazing_cosine=_log_uniform(rng, 0.06, 0.35),
        edge_loss_px=_log_uniform(rng, 0.7, 6.0) if rng.random() < 0.7 else 0.0,
        fattening_px=rng.uniform(1.0, 2.5) if rng.random() < 0.5 else 0.0,
        jitter_px=rng.uniform(0.3, 1.0),
    )


def _sample_active_stereo(rng: np.random.Generator) -> DepthSensor:
    """RealSense D400: 50 mm (D435) or 55 to 95 mm, wavy planes, blobby outlines."""
    baseline = rng.uniform(0.045, 0.06) if rng.random() < 0.8 else rng.uniform(0.06, 0.095)
    left = rng.uniform(0.01, 0.02)
    is_filled = rng.random() < 0.25
    return replace(
        _sample_common(rng, "active_stereo"),
        range_m=(rng.uniform(0.17, 0.4), rng.uniform(4.0, 10.0)),
        disparity_step_m=0.0012 * 0.05 / baseline,
        noise_m=_log_uniform(rng, 0.0015, 0.006) * 0.05 / baseline,
        noise_cell_px=rng.uniform(6.0, 22.0),
        viewpoints_m=(left, left + baseline) if not is_filled else (),
        signal_limit=_log_uniform(rng, 0.001, 0.02),
        glare_limit=_log_uniform(rng, 1.5, 6.0) if rng.random() < 0.3 else math.inf,
        grazing_cosine=_log_uniform(rng, 0.05, 0.3),
        edge_loss_px=0.0 if is_filled else _log_uniform(rng, 0.5, 4.0),
        fattening_px=rng.uniform(2.0, 7.0),
        jitter_px=rng.uniform(0.3, 1.0),
        blob_share=_log_uniform(rng, 0.005, 0.08) * (0.2 if is_filled else 1.0),
    )


def _sample_time_of_flight(rng: np.random.Generator) -> DepthSensor:
    """Kinect v2 and Azure Kinect: little noise, pixels that fly off edges, dark things lost."""
    side = 1.0 if rng.random() < 0.5 else -1.0
    return replace(
        _sample_common(rng, "time_of_flight"),
        range_m=(rng.uniform(0.3, 0.5), rng.uniform(3.8, 8.0)),
        noise_m=_log_uniform(rng, 0.0008, 0.003),
        noise_power=1.0,
        noise_cell_px=rng.uniform(1.0, 3.0),
        viewpoints_m=(side * rng.uniform(0.03, 0.055),),
        signal_limit=_log_uniform(rng, 0.004, 0.05),
        glare_limit=_log_uniform(rng, 2.0, 8.0) if rng.random() < 0.3 else math.inf,
        grazing_cosine=_log_uniform(rng, 0.06, 0.35),
        edge_loss_px=_log_uniform(rng, 0.3, 2.5),
        flying_share=rng.uniform(0.1, 0.8),
        jitter_px=rng.uniform(0.2, 0.8),
    )


def _sample_common(rng: np.random.Generator, kind: SensorKind) -> DepthSensor:
    """How depth is joined to colour, and the holes that all kinds have."""
    is_off = rng.random() < 0.6
    shift_x, shift_y = np.clip(rng.normal(0.0, 1.2 if is_off else 0.3, 2), -3.0, 3.0)
    widths = rng.uniform(0.0, 24.0, 4) * (rng.random(4) < 0.5) * (rng.random() < 0.4)
    left, top, right, bottom = map(float, widths)
    return DepthSensor(
        kind=kind,
        shift_px=(float(shift_x), float(shift_y)),
        scale=float(rng.uniform(0.994, 1.006)) if is_off else 1.0,
        torn_share=rng.uniform(0.05, 0.3) if rng.random() < 0.2 else 0.0,
        torn_px=rng.uniform(-4.0, 4.0),
        border_px=(left, top, right, bottom),
        blob_share=_log_uniform(rng, 0.001, 0.03) if rng.random() < 0.7 else 0.0,
        blob_px=rng.uniform(5.0, 20.0),
        speckle_share=_log_uniform(rng, 0.00002, 0.005),
    )


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
