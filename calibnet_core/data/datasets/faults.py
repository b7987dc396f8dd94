"""What can be wrong with a data set, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from calibnet_core.structures import FrameError

_SHOWN = 5


class DatasetError(FrameError):
    """A data set cannot be used as it is; the message names the files and reasons."""


@dataclass(frozen=True, order=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        file: the file that has to be mended.
        where: place in it, for instance "annotation 17"; empty for the whole file.
        reason: what is wrong and how to mend it.
        severity: "error" where the image or object cannot be used, "warning" where it can, with
            what the reason says done about it.
    """

    file: str
    where: str
    reason: str
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        place = f"{self.file}: {self.where}" if self.where else self.file
        return f"{place}: {self.reason}"


def errors_among(faults: Sequence[Fault]) -> list[Fault]:
    """The faults that make an image or object unusable."""
    return [fault for fault in faults if fault.severity == "error"]


def raise_on_errors(name: str, faults: Sequence[Fault]) -> None:
    """Raise `DatasetError` if there is an error among the faults."""
    if errors := errors_among(faults):
        more = f"\n... and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else ""
        listed = "\n".join(str(fault) for fault in errors[:_SHOWN])
        faults_or_fault = "faults" if len(errors) > 1 else "fault"
        raise DatasetError(
            f"{name}: {len(errors)} {faults_or_fault} in the data set; `calibnet dataset check` "
            "lists all:\n"
            f"{listed}{more}"
        )
