"""What the doctor has to say: a verdict, a sentence, and the way to mend it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """How much a finding matters."""

    GOOD = "good"
    NOTE = "worth knowing"
    MEND = "must be mended"


class Theme(Enum):
    """Groups of findings, in the order in which they are printed."""

    INPUTS = "Inputs"
    TIME = "Rates and time"
    IMAGES = "Images"
    DEPTH = "Depth"
    INTRINSICS = "Camera info"
    FRAMES = "Frames and transforms"
    MACHINE = "This machine"
    WEIGHTS = "Weights"


@dataclass(frozen=True)
class Finding:
    """One sentence of the doctor.

    Attributes:
        theme: the group that it belongs to.
        verdict: how much it matters.
        text: what was found, as a sentence.
        remedy: what to do about it; empty where nothing is to be done.
    """

    theme: Theme
    verdict: Verdict
    text: str
    remedy: str = ""


def good(theme: Theme, text: str) -> Finding:
    """A finding that needs nothing."""
    return Finding(theme, Verdict.GOOD, text)


def note(theme: Theme, text: str, remedy: str = "") -> Finding:
    """A finding with which the node works, but perhaps not as its user expects."""
    return Finding(theme, Verdict.NOTE, text, remedy)


def mend(theme: Theme, text: str, remedy: str) -> Finding:
    """A finding with which the node does not give what it is there for."""
    return Finding(theme, Verdict.MEND, text, remedy)


def mend_error(theme: Theme, introduction: str, message: str) -> Finding:
    """The same from an error, whose message says after its last semicolon how to mend it."""
    what, _, how = message.rpartition("; ")
    return mend(theme, f"{introduction}{what or how}.", how if what else "see the documentation")
