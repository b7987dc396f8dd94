"""Limits on figures of a document."""

from __future__ import annotations

import pytest

from calibnet_core.evaluation import EvaluationError
from calibnet_core.evaluation.recording.limits import judge, read_limits

DOCUMENT = {
    "ap50": 0.6,
    "mae": None,
    "drops": {"no_partner": 3},
    "truth": None,
    "recording": {"name": "a", "is_whole": True},
}


@pytest.mark.parametrize(
    ("name", "bounds", "passes"),
    [
        ("ap50", {"min": 0.6}, True),
        ("ap50", {"min": 0.61}, False),
        ("drops.no_partner", {"max": 3}, True),
        ("drops.no_partner", {"max": 2}, False),
        ("drops.no_partner", {"min": 4, "max": 9}, False),
        ("recording.is_whole", {"min": 1}, True),
        ("mae", {"max": 1}, False),  # what is not known does not pass
        ("truth.overlap_f", {"min": 0}, False),
    ],
)
def test_a_figure_passes_within_its_bounds(name: str, bounds: dict, passes: bool) -> None:
    (verdict,) = judge(read_limits({name: bounds}, "limits.yaml"), DOCUMENT)
    assert verdict.passes is passes


@pytest.mark.parametrize("name", ["ap51", "drops.nothing", "drops", "recording.name", "ap50.deep"])
def test_a_name_that_is_no_figure_is_refused(name: str) -> None:
    with pytest.raises(EvaluationError, match=f"a limit names '{name}'"):
        judge(read_limits({name: {"min": 0}}, "limits.yaml"), DOCUMENT)


@pytest.mark.parametrize(
    "document",
    [None, [], {}, {"ap": 0.5}, {"ap": {}}, {"ap": {"least": 1}}, {"ap": {"min": "x"}},
     {"ap": {"min": True}}, {"ap": {"max": float("nan")}}, {3: {"min": 0}}],
)  # fmt: skip
def test_a_file_without_sound_limits_is_refused(document: object) -> None:
    with pytest.raises(EvaluationError, match=r"limits\.yaml: "):
        read_limits(document, "limits.yaml")
