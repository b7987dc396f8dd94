"""An intake under test, fed with the messages of one camera and checked after each."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from calibnet_core.perception.accounting import DropReason, FrameLedger, LedgerSnapshot
from calibnet_core.perception.intake import FrameIntake, FramePair, IntakeSettings
from tests.support.image_messages import image

MS = 1_000_000
START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 33 * MS
RGB = np.zeros((2, 3, 3), np.uint8)
DEPTH = np.ones((2, 3), np.uint16)
ALONE = IntakeSettings(require_depth=False, depth_timeout_s=0.5)
"""Lets colour go on without depth, after half a second at once."""


def stamp(index: float) -> int:
    """Stamp of frame `index` in nanoseconds."""
    return START_NS + round(index * PERIOD_NS)


def color_msg(stamp_ns: int, **changes: Any) -> SimpleNamespace:
    """A sound colour message, unless `changes` spoil it."""
    return image(RGB, "rgb8", stamp_ns, **changes)


def depth_msg(stamp_ns: int, **changes: Any) -> SimpleNamespace:
    """A sound depth message of the same size."""
    return image(DEPTH, "16UC1", stamp_ns, **changes)


@dataclass
class Listener:
    """Writes down what it is told, in `told`."""

    told: list[tuple[Any, ...]] = field(default_factory=list)

    def dropped(self, stream: str, reason: DropReason, message: str) -> None:
        assert message
        self.told.append(("dropped", stream, reason))

    def backward_jump(self, jump) -> None:
        self.told.append(("jump", jump.stream))

    def paired(self, color, depth) -> None:
        self.told.append(("paired", color.stamp_ns, depth.stamp_ns))

    def camera_info_changed(self, before, now) -> None:
        self.told.append(("info", before, now))


class Camera:
    """An intake whose pairs stay in flight until `publish`; `handed` holds all of them."""

    def __init__(self, settings: IntakeSettings, **options: Any) -> None:
        self.ledger, self.listener = FrameLedger(), Listener()
        self.handed: list[FramePair] = []
        self.in_flight = 0
        self.intake = FrameIntake(
            settings, ledger=self.ledger, listener=self.listener, on_pair=self._take, **options
        )

    def _take(self, pair: FramePair) -> None:
        self.handed.append(pair)
        self.in_flight += 1

    def publish(self) -> None:
        """End all pairs that are in flight."""
        for _ in range(self.in_flight):
            self.ledger.published()
        self.in_flight = 0

    def color(self, stamp_ns: int, **changes: Any) -> None:
        """A colour message comes."""
        self.intake.add_color(color_msg(stamp_ns, **changes))
        self.check()

    def depth(self, stamp_ns: int, **changes: Any) -> None:
        """A depth message comes."""
        self.intake.add_depth(depth_msg(stamp_ns, **changes))
        self.check()

    def check(self) -> LedgerSnapshot:
        """The counters, which must balance."""
        snapshot = self.intake.snapshot(self.in_flight)
        snapshot.check()
        return snapshot

    def stamps(self) -> list[int]:
        """Colour stamps of what was handed over, in order."""
        return [pair.color.stamp_ns for pair in self.handed]
