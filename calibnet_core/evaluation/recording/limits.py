"""Limits on figures, so that a recording can decide whether a release passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from calibnet_core.evaluation.errors import EvaluationError


@dataclass(frozen=True, kw_only=True)
class Limit:
    """Bounds of one figure, both inclusive; None leaves a side open.

    Attributes:
        name: dotted name in the document, such as `drops.no_partner`.
        lowest, highest: the bounds.
    """

    name: str
    lowest: float | None = None
    highest: float | None = None

    def __str__(self) -> str:
        bounds = (("min", self.lowest), ("max", self.highest))
        return ", ".join(f"{side} {value:g}" for side, value in bounds if value is not None)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A limit and how the figure fares; `value` is None where it is not known, which fails."""

    limit: Limit
    value: float | None

    @property
    def passes(self) -> bool:
        """Whether the figure is known and within the bounds."""
        low, high, value = self.limit.lowest, self.limit.highest, self.value
        return value is not None and (
            (low is None or value >= low) and (high is None or value <= high)
        )


def read_limits(document: Any, where: str) -> tuple[Limit, ...]:
    """Limits from a mapping such as `{"ap50": {"min": 0.6}}`.

    Args:
        document: content of the file.
        where: what to call it in messages.

    Raises:
        EvaluationError: it is no such mapping.
    """
    if not isinstance(document, dict) or not document:
        raise EvaluationError(
            f"{where}: holds no limits; write figures with bounds, such as 'ap50: {{min: 0.6}}'"
        )
    limits = []
    for name, bounds in document.items():
        if (
            not isinstance(name, str)
            or not isinstance(bounds, dict)
            or not bounds
            or bounds.keys() - {"min", "max"}
            or not all(_is_number(value) for value in bounds.values())
        ):
            raise EvaluationError(
                f"{where}: '{name}' is {bounds!r}; expected bounds such as {{min: 0.6}} or "
                "{min: 0, max: 3}"
            )
        limits.append(Limit(name=name, lowest=bounds.get("min"), highest=bounds.get("max")))
    return tuple(limits)


def judge(limits: tuple[Limit, ...], document: Mapping[str, Any]) -> list[Verdict]:
    """Hold a document against limits.

    Args:
        limits: see `read_limits`.
        document: as `recording_document` makes it.

    Raises:
        EvaluationError: a limit names no figure of the document.
    """
    return [Verdict(limit=limit, value=_figure(limit.name, document)) for limit in limits]


def _figure(name: str, document: Mapping[str, Any]) -> float | None:
    value: Any = document
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            # A whole section is absent where what it tells of is not known: nothing is decided.
            if value is None:
                return None
            known = sorted(value) if isinstance(value, Mapping) else []
            raise EvaluationError(
                f"a limit names '{name}', which is no figure of report.json; "
                + (f"beside '{part}' there are {', '.join(known)}" if known else "shorten the name")
            )
        value = value[part]
    if value is None:
        return None
    if isinstance(value, bool) or _is_number(value):
        return float(value)
    raise EvaluationError(
        f"a limit names '{name}', which is no number in report.json; name one figure"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value
