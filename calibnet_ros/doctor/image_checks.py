"""Encodings, sizes, frames, depths, and whether depth is registered to colour."""

from __future__ import annotations

from collections.abc import Iterator

from calibnet_core.perception.image_codec import is_native_color, is_native_depth
from calibnet_core.perception.registration import EdgeAgreement, Registration
from calibnet_ros.doctor.facts import ROLE_NAMES, Facts, InputFacts, Role
from calibnet_ros.doctor.findings import Finding, Theme, good, mend, mend_error, note

_IMAGES: tuple[Role, ...] = ("color", "depth")
_BARE_TYPES = ("8UC3", "8UC4")
_METRE_ENCODINGS = ("32FC1", "64FC1")
_MILLIMETRE_SUSPECT_M = 50.0
_NEAR_SUSPECT_M = 0.05
_FAR_SUSPECT_M = 12.0
_ALIGN = "switch depth alignment on in the driver and use its aligned topic"


def check_encodings(facts: Facts) -> Iterator[Finding]:
    """Can the node read the images?"""
    for role in _IMAGES:
        stream, label = facts.inputs.streams.get(role), ROLE_NAMES[role]
        if stream is None or stream.form is None:
            continue
        encoding = stream.form.encoding
        if stream.refusal:
            yield mend_error(Theme.IMAGES, f"{label} images are refused: ", stream.refusal)
        elif facts.inputs.choice.transport(role) != "raw":
            yield good(Theme.IMAGES, f"{label} is compressed as '{encoding}', which is read.")
        elif role == "color" and encoding in _BARE_TYPES:
            yield note(
                Theme.IMAGES,
                f"colour has encoding {encoding}, which names no order of colours; it is read blue "
                "first.",
                "let the driver publish rgb8 or bgr8, if red and blue look exchanged",
            )
        elif role == "color" and not is_native_color(encoding):
            yield note(
                Theme.IMAGES,
                f"colour has encoding {encoding}, which is read through cv_bridge.",
                "rgb8 or bgr8 costs less",
            )
        elif role == "color" or is_native_depth(encoding):
            yield good(Theme.IMAGES, f"{label} has encoding {encoding}, which is read directly.")
        if len({form.encoding for form in stream.forms}) > 1:
            names = ", ".join(sorted({form.encoding for form in stream.forms}))
            yield note(Theme.IMAGES, f"{label} changes its encoding: {names}.")


def check_sizes(facts: Facts) -> Iterator[Finding]:
    """Are colour and depth of one size, all the time?"""
    streams = facts.inputs.streams
    sizes = {}
    for role in _IMAGES:
        stream = streams.get(role)
        if stream is None or stream.size is None:
            continue
        sizes[role] = stream.size
        seen = sorted({form.size for form in stream.forms if form.size is not None})
        if len(seen) > 1:
            listed = ", ".join(map(_size, seen))
            yield note(Theme.IMAGES, f"{ROLE_NAMES[role]} changes its size: {listed}.")
    if len(sizes) < 2:
        return
    if sizes["color"] != sizes["depth"]:
        yield mend(
            Theme.IMAGES,
            f"colour is {_size(sizes['color'])} but depth {_size(sizes['depth'])}, so depth is not "
            "aligned to colour; the node rejects such pairs.",
            _ALIGN,
        )
    else:
        yield good(Theme.IMAGES, f"colour and depth are both {_size(sizes['color'])}.")


def check_depth(facts: Facts) -> Iterator[Finding]:
    """Is depth in the unit that its encoding promises, and is enough of it valid?"""
    depth, stream = facts.inputs.depth, facts.inputs.streams.get("depth")
    if depth is None or stream is None or stream.form is None:
        return
    encoding = stream.form.encoding.partition(";")[0]
    measured = f"{depth.valid_share:.0%} of the depth pixels hold a measurement"
    if depth.valid_share == 0.0:
        yield mend(
            Theme.DEPTH,
            f"no depth pixel of {depth.num_images} images holds a measurement.",
            "see whether the sensor is covered or too near, and the emitter on",
        )
        return
    if depth.valid_share < 0.1:
        yield mend(
            Theme.DEPTH,
            f"only {measured}.",
            "see the emitter, exposure and range of the sensor; objects without depth get no 3D",
        )
    elif depth.valid_share < 0.4:
        yield note(Theme.DEPTH, f"{measured}; objects may lack 3D.", "see emitter and exposure")
    else:
        yield good(Theme.DEPTH, measured + ".")
    reach = (
        f"median {depth.median_m:.2f} m, 5th to 95th percentile {depth.near_m:.2f} to "
        f"{depth.far_m:.2f} m"
    )
    if encoding in _METRE_ENCODINGS and depth.median_m > _MILLIMETRE_SUSPECT_M:
        yield mend(
            Theme.DEPTH,
            f"{encoding} depth is in metres (REP 118), but reads {reach}: these are millimetres.",
            "let the driver publish 16UC1, or set the parameter depth.unit:=mm",
        )
    elif encoding not in _METRE_ENCODINGS and depth.median_m < _NEAR_SUSPECT_M:
        yield mend(
            Theme.DEPTH,
            f"{encoding} depth is in millimetres (REP 118), but reads {reach}: these are metres, "
            "or another unit.",
            "let the driver publish whole millimetres, or metres as 32FC1; depth.unit:=m if they "
            "are whole metres",
        )
    elif not _NEAR_SUSPECT_M <= depth.median_m <= _FAR_SUSPECT_M:
        yield note(
            Theme.DEPTH,
            f"depth reads {reach}, unusual for such a camera; {encoding} counts as "
            f"{'metres' if encoding in _METRE_ENCODINGS else 'millimetres'}.",
            "see whether the driver scales its depth; readings outside depth.min and depth.max "
            "(0.1 to 10 m) count as not measured",
        )
    else:
        yield good(Theme.DEPTH, f"depths are plausible: {reach} ({encoding}).")


def check_registration(facts: Facts) -> Iterator[Finding]:
    """Do depth edges lie on colour edges?"""
    agreement = facts.inputs.agreement
    if agreement is None:
        return
    confidence = f"confidence {agreement.confidence:.0%}"
    x, y = agreement.shift_xy
    if agreement.verdict is Registration.REGISTERED:
        where = f"with depth {_shift(x, y)}" if x or y else "in place"
        yield good(
            Theme.DEPTH,
            f"depth is registered to colour: the edges agree best {where} ({confidence}).",
        )
    elif agreement.verdict is Registration.UNCLEAR:
        yield _unclear(facts.inputs, agreement)
    elif agreement.verdict is Registration.OTHER_VIEW:
        yield mend(
            Theme.DEPTH,
            f"depth is not registered to colour: the edges fit best with depth enlarged "
            f"{agreement.magnification:g} times, so it shows another camera's view ({confidence}).",
            _ALIGN,
        )
    else:
        yield mend(
            Theme.DEPTH,
            f"depth is not registered to colour: the edges fit best with depth {_shift(x, y)} "
            f"({confidence}).",
            f"{_ALIGN}; if it is on, calibrate the camera again, and see that colour and depth "
            "are of one moment when the camera moves",
        )


def check_frames(facts: Facts) -> Iterator[Finding]:
    """Are the frame ids equal, optical, and known to the transform tree?"""
    frames: dict[Role, str] = {}
    for role in _IMAGES:
        stream = facts.inputs.streams.get(role)
        if stream is not None and stream.form is not None:
            frames[role] = stream.form.frame_id
    color = frames.get("color")
    if color is None:
        return
    if not color:
        yield note(
            Theme.FRAMES,
            "colour images have an empty frame_id, so nothing can be placed on the robot.",
            "set the driver's frame name",
        )
    elif color.endswith("_link"):
        yield note(
            Theme.FRAMES,
            f"colour is in frame '{color}'; by that name its x would point forward, while images "
            "are taken as optical (z forward).",
            "use the driver's optical frame, if 3D results look turned by 90 degrees",
        )
    if "depth" in frames and frames["depth"] != color:
        yield note(
            Theme.FRAMES,
            f"colour is in frame '{color}' but depth in '{frames['depth']}': depth is probably not "
            "aligned to colour.",
            _ALIGN,
        )
    elif color and "depth" in frames and not color.endswith("_link"):
        yield good(Theme.FRAMES, f"colour and depth are in one frame, '{color}'.")
    yield from _transform_findings(facts.inputs, color)


def _transform_findings(inputs: InputFacts, color: str) -> Iterator[Finding]:
    if not inputs.is_live or not color:
        return
    if inputs.known_frames is None:
        yield note(
            Theme.FRAMES,
            "transforms were not looked at, for tf2_ros is not installed; results stay in the "
            "camera's frame.",
        )
    elif color not in inputs.known_frames:
        yield note(
            Theme.FRAMES,
            f"no transform leads to '{color}'; results are given in it, but nobody can place them "
            "on the robot.",
            "start robot_state_publisher, or a static_transform_publisher for the camera",
        )
    else:
        yield good(Theme.FRAMES, f"'{color}' is in the transform tree.")


def _unclear(inputs: InputFacts, agreement: EdgeAgreement) -> Finding:
    why = "no shift fits clearly better than others"
    if agreement.confidence == 0.0:
        why = "the scene shows too few edges"
    count = 0 if inputs.depth is None else inputs.depth.num_images
    return note(
        Theme.DEPTH,
        f"whether depth is registered to colour cannot be told from these {count} images: {why}.",
        "point the camera at a few objects before a plain background, and run the doctor again",
    )


def _shift(x: int, y: int) -> str:
    parts = []
    if x:
        parts.append(f"{abs(x)} px to the {'right' if x > 0 else 'left'}")
    if y:
        parts.append(f"{abs(y)} px {'down' if y > 0 else 'up'}")
    return "moved " + " and ".join(parts)


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"
