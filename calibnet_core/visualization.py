"""Pictures of results: instances drawn over an image, depth in colours, sheets of pictures.

Images are (H, W, 3) uint8 RGB in and out; inputs are never changed.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

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


def instance_color(label: int) -> Color:
    """The colour of instance or track number `label`; the same number always gets the same one."""
    return _PALETTE[label % len(_PALETTE)]


def draw_instances(
    rgb: RgbImage,
    instances: Instances,
    *,
    labels: Sequence[int] | None = None,
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
        with_boxes: also draw each instance's box.
        with_captions: write label and score at each instance.
        opacity: of the fill, in [0, 1].

    Returns:
        (H, W, 3) uint8.

    Raises:
        FrameError: the sizes of image and masks, or the numbers of labels and instances, differ.
    """
    canvas = rgb.copy()
    _check_sizes(rgb, instances, labels)
    names = list(range(1, len(instances) + 1)) if labels is None else [int(name) for name in labels]
    thickness = max(1, round(min(rgb.shape[:2]) / 240))
    # Large instances first, so that what lies on them stays visible.
    order = np.argsort(-instances.masks.sum(axis=(1, 2)), kind="stable")
    for index in order:
        mask, color = instances.masks[index], instance_color(names[index] - 1)
        fill = canvas[mask] * (1.0 - opacity) + np.array(color) * opacity
        canvas[mask] = (fill + 0.5).astype(np.uint8)
        _draw_outline(canvas, mask, color, thickness)
        if with_boxes and mask.any():
            x_min, y_min, x_max, y_max = (int(edge) for edge in instances.boxes_xyxy[index])
            corners = (x_min, y_min), (x_max - 1, y_max - 1)
            cv2.rectangle(canvas, *corners, color, thickness)
    if with_captions:
        taken: list[tuple[int, int, int, int]] = []
        for index in order[::-1]:
            if instances.masks[index].any():
                text = f"{names[index]} {instances.scores[index]:.2f}"
                color = instance_color(names[index] - 1)
                _draw_caption(canvas, text, instances.masks[index], color, taken)
    return canvas


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


def _check_sizes(rgb: RgbImage, instances: Instances, labels: Sequence[int] | None) -> None:
    if instances.masks.shape[1:] != rgb.shape[:2]:
        raise FrameError(
            f"masks are {instances.masks.shape[1:]} but the image is {rgb.shape[:2]} "
            "(height, width); draw on the image that was predicted"
        )
    if labels is not None and len(labels) != len(instances):
        raise FrameError(f"{len(labels)} labels for {len(instances)} instances; give one for each")


def _draw_outline(canvas: RgbImage, mask: NDArray[np.bool_], color: Color, thickness: int) -> None:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    # A dark line beneath keeps the outline visible on a background of its own colour.
    cv2.drawContours(canvas, contours, -1, _INK, thickness + 2, cv2.LINE_AA)
    # Smoothing would thin a line of one pixel to nothing.
    style = cv2.LINE_AA if thickness > 1 else cv2.LINE_8
    cv2.drawContours(canvas, contours, -1, color, thickness, style)


def _draw_caption(
    canvas: RgbImage,
    text: str,
    mask: NDArray[np.bool_],
    color: Color,
    taken: list[tuple[int, int, int, int]],
) -> None:
    """Write `text` on a coloured plate at the mask's top, clear of the plates in `taken`."""
    height, width = canvas.shape[:2]
    scale = max(0.4, min(height, width) / 1000)
    weight = max(1, round(scale * 1.6))
    (text_width, text_height), baseline = cv2.getTextSize(text, _FONT, scale, weight)
    pad = max(2, text_height // 4)
    plate_width, plate_height = text_width + 2 * pad, text_height + baseline + 2 * pad

    top = int(np.flatnonzero(mask.any(axis=1))[0])
    center = int(np.flatnonzero(mask[top]).mean())
    left = int(np.clip(center - plate_width // 2, 0, max(0, width - plate_width)))
    y = int(np.clip(top - plate_height - 2, 0, max(0, height - plate_height)))
    while y + plate_height < height and any(
        left < x1 and x0 < left + plate_width and y < y1 and y0 < y + plate_height
        for x0, y0, x1, y1 in taken
    ):
        y += 2
    taken.append((left, y, left + plate_width, y + plate_height))

    lightness = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    corner = (left + plate_width - 1, y + plate_height - 1)
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
