"""Camera info: there, calibrated, of the image's size, and the same for depth."""

from __future__ import annotations

import math
from collections.abc import Iterator

from calibnet_core.perception.camera_rays import check_camera_model
from calibnet_core.structures import CameraIntrinsics
from calibnet_ros.doctor.facts import Facts, InfoFacts
from calibnet_ros.doctor.findings import Finding, Theme, good, mend, mend_error, note

_THEME = Theme.INTRINSICS
_WITHOUT = "without it masks are published but no 3D"


def check_camera_info(facts: Facts) -> Iterator[Finding]:
    """Does the camera info let points be placed in space?"""
    inputs = facts.inputs
    color = inputs.streams.get("color")
    info = inputs.infos.get("info")
    if color is None or not color.stamps_ns:
        return
    if info is None:
        name = inputs.choice.info
        where = f"on {name}" if name else "beside the colour topic"
        yield mend(
            _THEME,
            f"no camera info came {where}; {_WITHOUT}.",
            "let the driver publish it, or name the topic with --info-topic"
            + ("" if inputs.is_live else "; record it next time"),
        )
        return
    if not _is_calibrated(info):
        yield mend(
            _THEME,
            f"the camera info is not calibrated (focal lengths {_focal(info)}); it counts as "
            f"absent, and {_WITHOUT}.",
            "calibrate the camera, or load its calibration in the driver",
        )
        return
    if color.size is not None and info.size != color.size:
        yield mend(
            _THEME,
            f"the camera info describes {info.size[1]}x{info.size[0]} but colour is "
            f"{color.size[1]}x{color.size[0]}; it counts as absent, and {_WITHOUT}.",
            "take the camera info of this very image topic (--info-topic), or mend the driver's "
            "binning and region of interest",
        )
    yield from _distortion_findings(info)


def check_depth_info(facts: Facts) -> Iterator[Finding]:
    """Has depth the intrinsics of the colour camera, as registered depth must?"""
    color, depth = facts.inputs.infos.get("info"), facts.inputs.infos.get("depth_info")
    if color is None or depth is None or facts.inputs.choice.info == facts.inputs.choice.depth_info:
        return
    if not _is_calibrated(color) or not _is_calibrated(depth):
        return
    pairs = zip(color.pinhole, depth.pinhole, strict=True)
    is_same = all(math.isclose(first, second, rel_tol=0.01) for first, second in pairs)
    if is_same and color.size == depth.size:
        yield good(_THEME, "depth has the intrinsics of the colour camera, as it should.")
    else:
        yield note(
            _THEME,
            f"depth has other intrinsics than colour (focal lengths {_focal(depth)} against "
            f"{_focal(color)}), so it is not aligned to colour, or its camera info is wrong.",
            "believe the edges (above, under Depth); if they disagree too, switch depth alignment "
            "on in the driver",
        )


def _distortion_findings(info: InfoFacts) -> Iterator[Finding]:
    if not all(map(math.isfinite, info.d)):
        yield mend(
            _THEME, "the distortion coefficients are not finite.", "calibrate the camera again"
        )
        return
    if not any(info.d):
        yield good(
            _THEME,
            f"camera info is calibrated (focal lengths {_focal(info)} px), without distortion.",
        )
        return
    fx, fy, cx, cy = info.pinhole
    try:
        check_camera_model(
            CameraIntrinsics(
                height=info.size[0],
                width=info.size[1],
                fx=fx,
                fy=fy,
                cx=cx,
                cy=cy,
                distortion_model=info.distortion_model,
                distortion=info.d,
            )
        )
    except ValueError as error:
        yield mend_error(_THEME, "masks are published but no 3D: ", str(error))
        return
    yield good(
        _THEME,
        f"camera info is calibrated (focal lengths {_focal(info)} px), distortion model "
        f"{info.distortion_model} with {len(info.d)} coefficients, which 3D respects.",
    )


def _is_calibrated(info: InfoFacts) -> bool:
    return all(map(math.isfinite, info.pinhole)) and min(info.pinhole[:2]) > 0


def _focal(info: InfoFacts) -> str:
    return f"{info.pinhole[0]:.1f}, {info.pinhole[1]:.1f}"
