"""What the doctor says of camera info."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from calibnet_ros.doctor.camera_info_checks import check_camera_info, check_depth_info
from calibnet_ros.doctor.findings import Verdict
from tests.calibnet_ros.doctor.sound import INFO, bad, facts, only


def test_absent_camera_info_names_the_topic_and_what_is_lost() -> None:
    given = facts(infos={})
    only(check_camera_info, given, Verdict.MEND, given.inputs.choice.info, "but no 3D")


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"pinhole": (0.0, 0.0, 0.0, 0.0)}, ("not calibrated", "counts as absent")),
        ({"pinhole": (math.nan,) * 4}, ("not calibrated",)),
        ({"size": (720, 1280)}, ("1280x720", "640x480", "--info-topic")),
        ({"distortion_model": "fov"}, ("'fov'", "unknown", "rectify")),
        ({"d": (0.1, 0.2)}, ("2 coefficients", "mend the calibration")),
        ({"d": (math.inf,) * 5}, ("not finite",)),
    ],
)
def test_camera_info_that_gives_no_3d_is_told(
    change: dict[str, object], parts: tuple[str, ...]
) -> None:
    given = facts(infos={"info": replace(INFO, **change)})  # type: ignore[arg-type]
    only(check_camera_info, given, Verdict.MEND, *parts)


def test_models_that_geometry_knows_and_rectified_images_are_good() -> None:
    for model, d in (("rational_polynomial", (0.1,) * 8), ("equidistant", (0.1,) * 4), ("", ())):
        given = facts(infos={"info": replace(INFO, distortion_model=model, d=d)})
        assert bad(check_camera_info, given) == []


def test_depth_with_intrinsics_of_its_own_is_told_and_with_those_of_colour_is_good() -> None:
    own = replace(INFO, pinhole=(420.0, 420.0, 319.5, 239.5))
    given = facts(infos={"info": INFO, "depth_info": own})
    only(check_depth_info, given, Verdict.NOTE, "420.0, 420.0 against 600.0, 600.0")
    assert [finding.verdict for finding in check_depth_info(facts())] == [Verdict.GOOD]
