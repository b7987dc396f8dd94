"""All checks, one after the other, and what they add up to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from calibnet_ros.doctor import (
    camera_info_checks,
    image_checks,
    input_checks,
    machine_checks,
    time_checks,
)
from calibnet_ros.doctor.advice import launch_line, node_lines
from calibnet_ros.doctor.facts import Facts
from calibnet_ros.doctor.findings import Finding, Theme, Verdict, note

Check = Callable[[Facts], Iterator[Finding]]

CHECKS: tuple[Check, ...] = (
    input_checks.check_source,
    input_checks.check_presence,
    input_checks.check_publishers,
    input_checks.check_arrival,
    time_checks.check_rates,
    time_checks.check_transport,
    time_checks.check_stamps,
    time_checks.check_pairing,
    time_checks.check_clocks,
    image_checks.check_encodings,
    image_checks.check_sizes,
    image_checks.check_depth,
    image_checks.check_registration,
    image_checks.check_frames,
    camera_info_checks.check_camera_info,
    camera_info_checks.check_depth_info,
    machine_checks.check_middleware,
    machine_checks.check_discovery,
    machine_checks.check_compute,
    machine_checks.check_weights,
)


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor says.

    Attributes:
        findings: grouped by theme, in order of the checks.
        launch_line: starts the node with launch.
        node_lines: do so without it.
    """

    findings: tuple[Finding, ...]
    launch_line: str
    node_lines: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of the findings."""
        verdicts = [finding.verdict for finding in self.findings]
        for verdict in (Verdict.MEND, Verdict.NOTE):
            if verdict in verdicts:
                return verdict
        return Verdict.GOOD

    def of(self, theme: Theme) -> tuple[Finding, ...]:
        """The findings of one group."""
        return tuple(finding for finding in self.findings if finding.theme is theme)


def diagnose(facts: Facts) -> Diagnosis:
    """Run every check."""
    found = [finding for check in CHECKS for finding in _findings(check, facts)]
    order = list(Theme)
    found.sort(key=lambda finding: order.index(finding.theme))
    return Diagnosis(tuple(found), launch_line(facts), node_lines(facts))


def _findings(check: Check, facts: Facts) -> list[Finding]:
    try:
        return list(check(facts))
    except Exception as error:  # one fault of the doctor must not hide what the others found
        return [
            note(
                Theme.INPUTS,
                f"{check.__name__} failed with {type(error).__name__}: {error}.",
                "that is a fault of the doctor; please report it with this line",
            )
        ]
