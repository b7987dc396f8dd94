"""Pictures of results: instances drawn over an image, depth in colours, sheets of pictures.

Images are (H, W, 3) uint8 RGB in and out; inputs are never changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from calibnet_core.caption_layout import Plate, free_corner
from calibnet_core.perception.mask_codec import Roi, tight_roi
from calibnet_core.perception.perceiver import Perception
from calibnet_core.perception.shapes import box_outline, distance_m
from calibnet_core.structures import FrameError, Instances

RgbImage = NDArray[np.uint8]
Color = tuple[int, int, int]

# The Okabe-Ito palette without black, with wine, sand and indigo of Tol's: distinct under the
# common forms of colour blindness. In this order neighbours also differ in lightness.
_PALETTE: tuple[Color, ...] = (
    (230, 159, 0),
    (0, 114, 178),
    (240, 228, 66),
    (0, 158, 115),
    (204, 121, 167),
    (136, 34, 85),
    (86, 180, 233),
    (213, 94, 0),
    (221, 204, 119),
    (51, 34, 136),
)
_UNMEASURED: Color = (56, 56, 60)
_PAPER: Color = (255, 255, 255)
_INK: Color = (32, 32, 36)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
# Lines are drawn to a sixteenth of a pixel; with more, points far outside the image overflow.
_LINE_BITS = 4


def instance_color(label: int) -> Color:
    """The colour of instance or track number `label`; the same number always gets the same one."""
    return _PALETTE[label % len(_PALETTE)]


def draw_instances(
    rgb: RgbImage,
    instances: Instances,
    *,
    labels: Sequence[int] | None = None,
    captions: Sequence[str] | None = None,
    box_outlines: Sequence[Sequence[NDArray[np.float64]]] | None = None,
    with_boxes: bool = False,
    with_captions: bool = True,
    opacity: float = 0.45,
) -> RgbImage:
    """Draw masks as translucent fills with crisp outlines and a caption such as "1 0.83" each.

    Args:
        rgb: (H, W, 3) uint8.
        instances: K instances of the same size; none gives a copy of the image.
        labels: K numbers that name the instances and choose their colours, such as track ids; None
            counts from 1.
        captions: K texts; None writes label and score.
        box_outlines: for each of K boxes in space its edges, (N, 2) pixels a line; None draws none.
        with_boxes: also draw each instance's box.
        with_captions: write a caption at each instance.
        opacity: of the fill, in [0, 1].

    Returns:
        (H, W, 3) uint8.

    Raises:
        FrameError: the sizes of image and masks, or the numbers of labels, captions or outlines and
            instances, differ.
    """
    canvas = rgb.copy()
    _check_sizes(
        rgb, instances, {"labels": labels, "captions": captions, "box outlines": box_outlines}
    )
    names = list(range(1, len(instances) + 1)) if labels is None else [int(name) for name in labels]
    thickness = max(1, round(min(rgb.shape[:2]) / 240))
    drawn = [
        (index, instances.masks[index][roi.slices], roi)
        for index, roi in enumerate(map(tight_roi, instances.masks))
        if roi is not None
    ]
    # Large instances first, so that what lies on them stays visible.
    drawn.sort(key=lambda entry: -np.count_nonzero(entry[1]))
    for index, inside, roi in drawn:
        color = instance_color(names[index] - 1)
        _fill(canvas[roi.slices], inside, color, opacity)
        _draw_outline(canvas, inside, roi, color, thickness)
        if with_boxes:
            end = (roi.x_offset + roi.width - 1, roi.y_offset + roi.height - 1)
            cv2.rectangle(canvas, (roi.x_offset, roi.y_offset), end, color, thickness)
    if box_outlines is not None:
        for index, _, _ in drawn:
            color = instance_color(names[index] - 1)
            _draw_lines(canvas, box_outlines[index], color, max(1, thickness // 2))
    taken: list[Plate] = []
    for index, inside, roi in drawn[::-1] if with_captions else ():
        text = f"{names[index]} {instances.scores[index]:.2f}"
        text = text if captions is None else captions[index]
        top = (roi.x_offset + int(np.flatnonzero(inside[0]).mean()), roi.y_offset)
        _draw_caption(canvas, text, top, instance_color(names[index] - 1), taken)
    return canvas


def draw_perception(perception: Perception) -> RgbImage:
    """Draw a frame's objects: masks, boxes of their visible surfaces, and `display_captions`.

    Colours follow the tracks, so that an object keeps its own from frame to frame.

    Returns:
        (H, W, 3) uint8.
    """
    camera, outlines = perception.frame.intrinsics, None
    if camera is not None:
        outlines = [box_outline(geometry, camera) for geometry in perception.geometry]
    return draw_instances(
        perception.frame.rgb,
        perception.instances,
        labels=display_numbers(perception),
        captions=display_captions(perception),
        box_outlines=outlines,
    )


def display_numbers(perception: Perception) -> list[int]:
    """K numbers that name objects to people and choose their colours: track id, else instance id.

    `instance_color` of a number less 1 is the colour.
    """
    ids = zip(perception.tracks, perception.instance_ids, strict=True)
    return [track.track_id or instance_id for track, instance_id in ids]


def display_captions(perception: Perception) -> list[str]:
    """K captions: number, score and, where it is known, distance, as in "3 0.83 1.24 m"."""
    captions = []
    numbers, scores = display_numbers(perception), perception.instances.scores
    for number, score, geometry in zip(numbers, scores, perception.geometry, strict=True):
        distance = distance_m(geometry)
        suffix = f" {distance:.2f} m" if np.isfinite(distance) else ""
        captions.append(f"{number} {score:.2f}{suffix}")
    return captions


def mask_outlines(mask: NDArray[np.bool_], roi: Roi) -> list[NDArray[np.int32]]:
    """Closed outlines of a mask and of its holes, as corners on the outermost pixels.

    Args:
        mask: (H, W).
        roi: tight box of the mask.

    Returns:
        (N, 2) pixels (x, y) each, N >= 1.
    """
    found = _contours(mask[roi.slices], roi, cv2.CHAIN_APPROX_SIMPLE)
    return [np.asarray(outline, np.int32).reshape(-1, 2) for outline in found]


def colorize_depth(
    depth_m: NDArray[np.float32], *, range_m: tuple[float, float] | None = None
) -> RgbImage:
    """Depth in colours: near is red, far is blue, dark grey means that nothing was measured.

    Args:
        depth_m: (H, W) metres; NaN, infinite, zero or negative means not measured.
        range_m: (nearest, farthest) metres of the colour scale; None takes the 1st and 99th
            percentile.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    is_measured = np.isfinite(depth_m) & (depth_m > 0)
    picture = np.full((*depth_m.shape, 3), _UNMEASURED, np.uint8)
    if not is_measured.any():
        return picture
    near, far = np.percentile(depth_m[is_measured], (1, 99)) if range_m is None else range_m
    share = (far - np.where(is_measured, depth_m, far)) / max(far - near, 1e-6)
    levels = (np.clip(share, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    colored = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    picture[is_measured] = colored[is_measured]
    return picture


def contact_sheet(
    rows: Sequence[Sequence[RgbImage]],
    *,
    column_titles: Sequence[str] = (),
    row_captions: Sequence[str] = (),
    max_width: int = 1600,
) -> RgbImage:
    """Arrange pictures in a grid on white, every one scaled to the same width.

    Args:
        rows: the grid, row by row; rows may have different lengths.
        column_titles: written above the columns.
        row_captions: written below the rows.
        max_width: of the sheet in pixels; pictures are never enlarged.

    Returns:
        (H, W, 3) uint8 RGB with W at most `max_width`.

    Raises:
        FrameError: there is no picture, or `max_width` leaves no room for the columns.
    """
    num_columns = max((len(row) for row in rows), default=0)
    if not num_columns:
        raise FrameError("a contact sheet needs at least one picture; give one row of one image")
    gap = 8
    room = (max_width - gap) // num_columns - gap
    if room < 16:
        raise FrameError(
            f"{num_columns} columns do not fit into {max_width} pixels; raise max_width"
        )
    cell = min(room, max(image.shape[1] for row in rows for image in row))
    width = gap + num_columns * (cell + gap)
    strips = [_text_strip(column_titles, width, gap, cell)] if column_titles else []
    for index, row in enumerate(rows):
        images = [_fit_width(image, cell) for image in row]
        strip = np.full((max((i.shape[0] for i in images), default=0), width, 3), _PAPER, np.uint8)
        for column, image in enumerate(images):
            left = gap + column * (cell + gap)
            strip[: image.shape[0], left : left + image.shape[1]] = image
        strips += [np.full((gap, width, 3), _PAPER, np.uint8), strip]
        if index < len(row_captions):
            strips.append(_text_strip([row_captions[index]], width, gap, width - 2 * gap))
    return np.vstack([*strips, np.full((gap, width, 3), _PAPER, np.uint8)])


def _check_sizes(
    rgb: RgbImage, instances: Instances, given: Mapping[str, Sequence[object] | None]
) -> None:
    if instances.masks.shape[1:] != rgb.shape[:2]:
        raise FrameError(
            f"masks are {instances.masks.shape[1:]} but the image is {rgb.shape[:2]} "
            "(height, width); draw on the image that was predicted"
        )
    for what, values in given.items():
        if values is not None and len(values) != len(instances):
            raise FrameError(
                f"{len(values)} {what} for {len(instances)} instances; give one for each"
            )


def _fill(crop: RgbImage, inside: NDArray[np.bool_], color: Color, opacity: float) -> None:
    fill = crop[inside] * (1.0 - opacity) + np.array(color) * opacity
    crop[inside] = (fill + 0.5).astype(np.uint8)


def _contours(inside: NDArray[np.bool_], roi: Roi, detail: int) -> Sequence[NDArray[np.int32]]:
    contours, _ = cv2.findContours(
        inside.astype(np.uint8), cv2.RETR_CCOMP, detail, offset=(roi.x_offset, roi.y_offset)
    )
    return contours  # type: ignore[return-value]


def _draw_outline(
    canvas: RgbImage, inside: NDArray[np.bool_], roi: Roi, color: Color, thickness: int
) -> None:
    contours = _contours(inside, roi, cv2.CHAIN_APPROX_NONE)
    # A dark line beneath keeps the outline visible on a background of its own colour.
    cv2.drawContours(canvas, contours, -1, _INK, thickness + 2, cv2.LINE_AA)
    # Smoothing would thin a line of one pixel to nothing.
    style = cv2.LINE_AA if thickness > 1 else cv2.LINE_8
    cv2.drawContours(canvas, contours, -1, color, thickness, style)


def _draw_lines(
    canvas: RgbImage, lines: Sequence[NDArray[np.float64]], color: Color, thickness: int
) -> None:
    fine = 1 << _LINE_BITS
    points = [np.rint(line * fine).astype(np.int32) for line in lines]
    for line_color, width in ((_INK, thickness + 1), (color, thickness)):
        cv2.polylines(canvas, points, False, line_color, width, cv2.LINE_AA, _LINE_BITS)


def _draw_caption(
    canvas: RgbImage, text: str, top: tuple[int, int], color: Color, taken: list[Plate]
) -> None:
    """Write `text` on a coloured plate above the point `top`, clear of the plates in `taken`."""
    scale = max(0.4, min(canvas.shape[:2]) / 1000)
    weight = max(1, round(scale * 1.6))
    (text_width, text_height), baseline = cv2.getTextSize(text, _FONT, scale, weight)
    pad = max(2, text_height // 4)
    size = (text_width + 2 * pad, text_height + baseline + 2 * pad)
    left, y = free_corner((top[0] - size[0] // 2, top[1] - size[1] - 2), size, canvas.shape, taken)
    taken.append((left, y, left + size[0], y + size[1]))

    lightness = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    corner = (left + size[0] - 1, y + size[1] - 1)
    cv2.rectangle(canvas, (left, y), corner, color, cv2.FILLED)
    cv2.rectangle(canvas, (left, y), corner, _INK, 1)
    ink = _INK if lightness > 120 else _PAPER
    origin = (left + pad, y + pad + text_height)
    cv2.putText(canvas, text, origin, _FONT, scale, ink, weight, cv2.LINE_AA)


def _text_strip(texts: Sequence[str], width: int, gap: int, cell: int) -> RgbImage:
    scale, height = 0.55, 26
    strip = np.full((height, width, 3), _PAPER, np.uint8)
    for column, text in enumerate(texts):
        left = gap + column * (cell + gap)
        # OpenCV's fonts hold ASCII only; anything else would appear as question marks anyway.
        plain = text.encode("ascii", "replace").decode()
        while plain and cv2.getTextSize(plain, _FONT, scale, 1)[0][0] > cell:
            plain = plain[:-1]
        cv2.putText(strip, plain, (left, height - 8), _FONT, scale, _INK, 1, cv2.LINE_AA)
    return strip


def _fit_width(image: RgbImage, width: int) -> RgbImage:
    if image.shape[1] <= width:
        return image
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
