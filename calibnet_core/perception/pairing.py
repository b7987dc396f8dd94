"""Pairing of a colour stream with a depth stream by acquisition stamp."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from calibnet_core.perception.accounting import DropReason

ColorT = TypeVar("ColorT")
DepthT = TypeVar("DepthT")
PayloadT = TypeVar("PayloadT")
StreamName: TypeAlias = Literal["color", "depth"]

_NS_PER_S = 1_000_000_000
_MAX_AUTOMATIC_TOLERANCE_NS = 25_000_000
# Just under half a frame, so that a neighbouring frame can never be taken for the right one.
_AUTOMATIC_SHARE_OF_PERIOD = 0.45
_PERIOD_WINDOW = 15


@dataclass(frozen=True, kw_only=True)
class PairerConfig:
    """How colour and depth are paired.

    Raises:
        ValueError: if a value is out of range; the message names the parameter.
    """

    mode: Literal["exact", "nearest", "latest"] = "nearest"
    """`exact`: equal stamps. `nearest`: nearest stamps, within the tolerance. `latest`: the newest
    message of each stream, whatever the stamps."""
    tolerance_s: float = 0.0
    """Largest |depth stamp - colour stamp| of a pair in mode `nearest`: 0.0005 to 0.5, or 0 for
    automatic, which is 0.45 of the measured colour period and at most 0.025."""
    queue: int = 5
    """Messages of each stream that may wait for a partner, 1 to 30. A stream that runs ahead of
    the other by n messages needs a queue of n or more. Mode `latest` keeps one in any case."""
    reset_on_backward_jump_s: float = 0.5
    """A stamp older than the newest of its stream by more than this means that time restarted;
    0.05 to 10."""

    def __post_init__(self) -> None:
        if self.mode not in ("exact", "nearest", "latest"):
            raise ValueError(f"sync.mode is '{self.mode}'; choose exact, nearest or latest")
        if not (self.tolerance_s == 0.0 or 0.0005 <= self.tolerance_s <= 0.5):
            raise ValueError(
                f"sync.tolerance is {self.tolerance_s} s; choose 0 (automatic) or 0.0005 to 0.5"
            )
        if not 1 <= self.queue <= 30:
            raise ValueError(f"sync.queue is {self.queue}; choose 1 to 30")
        if not 0.05 <= self.reset_on_backward_jump_s <= 10.0:
            raise ValueError(
                f"sync.reset_on_backward_jump is {self.reset_on_backward_jump_s} s; "
                "choose 0.05 to 10"
            )


@dataclass(frozen=True, slots=True)
class Pair(Generic[ColorT, DepthT]):
    """A colour and a depth message of one moment."""

    color_stamp_ns: int
    depth_stamp_ns: int
    color: ColorT
    depth: DepthT

    @property
    def offset_ns(self) -> int:
        """Depth stamp minus colour stamp."""
        return self.depth_stamp_ns - self.color_stamp_ns


@dataclass(frozen=True, slots=True)
class DroppedColor(Generic[ColorT]):
    """A colour message that will never be paired."""

    stamp_ns: int
    payload: ColorT
    reason: DropReason


@dataclass(frozen=True, slots=True)
class DroppedDepth(Generic[DepthT]):
    """A depth message that will never be paired."""

    stamp_ns: int
    payload: DepthT
    reason: DropReason


@dataclass(frozen=True, slots=True)
class BackwardJump:
    """Time restarted, for instance because a bag loops; seen first on `stream`."""

    stream: StreamName
    from_ns: int
    to_ns: int


Event: TypeAlias = Pair[ColorT, DepthT] | DroppedColor[ColorT] | DroppedDepth[DepthT] | BackwardJump


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting(Generic[PayloadT]):
    stamp_ns: int
    payload: PayloadT


class _Stream(Generic[PayloadT]):
    """One input: what waits, in order of arrival, and what the stamps tell about the rate."""

    def __init__(self, name: StreamName) -> None:
        self.name: StreamName = name
        self.waiting: list[_Waiting[PayloadT]] = []
        self.last_ns: int | None = None  # of the message that arrived last
        self.newest_ns: int | None = None  # the largest since time last restarted
        self.restart_ns: int | None = (
            None  # where the other stream restarted and this one has yet to
        )
        self._differences_ns: deque[int] = deque(maxlen=_PERIOD_WINDOW)
        self.period_ns: float | None = None

    def is_duplicate(self, stamp_ns: int) -> bool:
        # Older stamps are not remembered: a short bag in a loop brings them all again, and rightly
        # so.
        return stamp_ns == self.last_ns or any(w.stamp_ns == stamp_ns for w in self.waiting)

    def append(self, stamp_ns: int, payload: PayloadT) -> None:
        if self.last_ns is not None and stamp_ns > self.last_ns:
            # No difference is too long to count: the median shrugs off a pause, and a slow stream
            # needs a period too.
            self._differences_ns.append(stamp_ns - self.last_ns)
            self.period_ns = statistics.median(self._differences_ns)
        self.last_ns = stamp_ns
        self.newest_ns = stamp_ns if self.newest_ns is None else max(stamp_ns, self.newest_ns)
        self.waiting.append(_Waiting(stamp_ns, payload))

    def restart(self, stamp_ns: int) -> None:
        self.newest_ns = stamp_ns
        self.restart_ns = None
        self.forget_period()

    def forget_period(self) -> None:
        self._differences_ns.clear()
        self.period_ns = None

    def nearest(self, stamp_ns: int) -> _Waiting[PayloadT] | None:
        return min(self.waiting, key=lambda w: abs(w.stamp_ns - stamp_ns), default=None)

    def may_bring_nearer(self, found_ns: int, wanted_ns: int, *, if_unknown: bool) -> bool:
        """Whether a message still to come may lie nearer to `wanted_ns` than `found_ns` does.

        Assumes that stamps rise and keep their period; `if_unknown` is the answer without one.
        """
        if found_ns >= wanted_ns or (self.last_ns is not None and self.last_ns >= wanted_ns):
            return False
        if self.period_ns is None:
            return if_unknown
        return 2 * (wanted_ns - found_ns) >= self.period_ns


class StampPairer(Generic[ColorT, DepthT]):
    """Pairs two streams one to one.

    Every message ends in one pair or one drop event, or still waits. In mode `nearest` a colour
    and a depth message make a pair when each is the nearest the other has, and their distance is
    within the tolerance. They are paired as soon as no message still to come can lie nearer to
    either of them; until then both wait. A queue that overflows decides for its oldest message at
    once. The oldest is the one that arrived first: judged by stamp, what a bag leaves behind at
    the end of a loop would stay for ever and push out everything that follows.

    When stamps jump back, only messages of the abandoned future are dropped. Those that fit the
    new time stay, so it does not matter which stream restarts first, and one restart of both
    streams is reported once.

    A stamp equal to one that waits, or to the last on its stream, is a duplicate: the first
    message wins.

    Not thread-safe: call it from one thread. Payloads are never looked at, copied or compared.
    """

    def __init__(self, config: PairerConfig | None = None) -> None:
        self._config = config if config is not None else PairerConfig()
        self._color: _Stream[ColorT] = _Stream("color")
        self._depth: _Stream[DepthT] = _Stream("depth")

    @property
    def waiting_color(self) -> int:
        """Colour messages that wait for a partner."""
        return len(self._color.waiting)

    @property
    def waiting_depth(self) -> int:
        """Depth messages that wait for a partner."""
        return len(self._depth.waiting)

    @property
    def tolerance_s(self) -> float:
        """The tolerance in force, in seconds; infinite in mode `latest`."""
        return self._tolerance_ns() / _NS_PER_S

    def add_color(self, stamp_ns: int, payload: ColorT) -> list[Event[ColorT, DepthT]]:
        """Take in a colour message; return what follows from it, in order."""
        events = self._restart_if_backward(self._color, self._depth, stamp_ns)
        if self._color.is_duplicate(stamp_ns):
            return [*events, DroppedColor(stamp_ns, payload, DropReason.DUPLICATE)]
        self._color.append(stamp_ns, payload)
        return [*events, *self._settle()]

    def add_depth(self, stamp_ns: int, payload: DepthT) -> list[Event[ColorT, DepthT]]:
        """Take in a depth message; return what follows from it, in order."""
        events = self._restart_if_backward(self._depth, self._color, stamp_ns)
        if self._depth.is_duplicate(stamp_ns):
            return [*events, DroppedDepth(stamp_ns, payload, DropReason.DUPLICATE)]
        self._depth.append(stamp_ns, payload)
        return [*events, *self._settle()]

    def reconfigure(self, config: PairerConfig) -> list[Event[ColorT, DepthT]]:
        """Change the configuration while messages wait; return what follows from the change."""
        self._config = config
        return self._settle()

    def finish(self) -> list[Event[ColorT, DepthT]]:
        """Pair what can still be paired, since nothing nearer will come, and drop the rest."""
        events: list[Event[ColorT, DepthT]] = []
        while match := next(self._mutually_nearest(), None):
            events.append(self._pair(*match))
        return [*events, *self.flush(DropReason.NO_PARTNER)]

    def flush(self, reason: DropReason) -> list[Event[ColorT, DepthT]]:
        """Drop every waiting message. Stamps and periods seen so far are remembered."""
        return self._drop_beyond(-math.inf, reason)

    def _tolerance_ns(self) -> float:
        if self._config.mode == "exact":
            return 0
        if self._config.mode == "latest":
            return math.inf
        if self._config.tolerance_s > 0:
            return round(self._config.tolerance_s * _NS_PER_S)
        period_ns = self._color.period_ns or self._depth.period_ns or math.inf
        return min(_AUTOMATIC_SHARE_OF_PERIOD * period_ns, _MAX_AUTOMATIC_TOLERANCE_NS)

    def _restart_if_backward(
        self, moving: _Stream[Any], other: _Stream[Any], stamp_ns: int
    ) -> list[Event[ColorT, DepthT]]:
        threshold_ns = round(self._config.reset_on_backward_jump_s * _NS_PER_S)
        newest_ns = moving.newest_ns
        if newest_ns is None or stamp_ns >= newest_ns - threshold_ns:
            return []
        events: list[Event[ColorT, DepthT]] = []
        # The second stream lands where the first restarted, or as far on as the first has come
        # since.
        follows = (
            moving.restart_ns is not None
            and other.newest_ns is not None
            and moving.restart_ns - threshold_ns <= stamp_ns <= other.newest_ns + threshold_ns
        )
        if not follows:
            events.append(BackwardJump(moving.name, newest_ns, stamp_ns))
            other.forget_period()
            if other.newest_ns is not None and other.newest_ns > stamp_ns + threshold_ns:
                other.restart_ns = stamp_ns
        moving.restart(stamp_ns)
        return events + self._drop_beyond(stamp_ns + threshold_ns, DropReason.RESET)

    def _settle(self) -> list[Event[ColorT, DepthT]]:
        is_latest = self._config.mode == "latest"
        queue = 1 if is_latest else self._config.queue
        reason = DropReason.SUPERSEDED if is_latest else DropReason.NO_PARTNER
        events: list[Event[ColorT, DepthT]] = []
        while True:
            matches = list(self._mutually_nearest())
            settled = next((match for match in matches if self._is_settled(*match)), None)
            if settled is not None:
                events.append(self._pair(*settled))
            elif len(self._color.waiting) > queue:
                color = self._color.waiting[0]
                match = next((match for match in matches if match[0] is color), None)
                events.append(self._pair(*match) if match else self._drop_color(color, reason))
            elif len(self._depth.waiting) > queue:
                depth = self._depth.waiting[0]
                match = next((match for match in matches if match[1] is depth), None)
                events.append(self._pair(*match) if match else self._drop_depth(depth, reason))
            else:
                return events

    def _mutually_nearest(self) -> Iterator[tuple[_Waiting[ColorT], _Waiting[DepthT]]]:
        tolerance_ns = self._tolerance_ns()
        for color in self._color.waiting:
            depth = self._depth.nearest(color.stamp_ns)
            if depth is None or abs(depth.stamp_ns - color.stamp_ns) > tolerance_ns:
                continue
            if self._color.nearest(depth.stamp_ns) is color:
                yield color, depth

    def _is_settled(self, color: _Waiting[ColorT], depth: _Waiting[DepthT]) -> bool:
        if self._config.mode == "latest":
            return True
        # While no period is known, only a distant partner is worth waiting for: a camera that sends
        # one picture on demand would otherwise be answered when the next is taken.
        is_far = abs(depth.stamp_ns - color.stamp_ns) > _MAX_AUTOMATIC_TOLERANCE_NS
        return not (
            self._depth.may_bring_nearer(depth.stamp_ns, color.stamp_ns, if_unknown=is_far)
            or self._color.may_bring_nearer(color.stamp_ns, depth.stamp_ns, if_unknown=is_far)
        )

    def _pair(self, color: _Waiting[ColorT], depth: _Waiting[DepthT]) -> Pair[ColorT, DepthT]:
        self._color.waiting.remove(color)
        self._depth.waiting.remove(depth)
        return Pair(color.stamp_ns, depth.stamp_ns, color.payload, depth.payload)

    def _drop_color(self, color: _Waiting[ColorT], reason: DropReason) -> DroppedColor[ColorT]:
        self._color.waiting.remove(color)
        return DroppedColor(color.stamp_ns, color.payload, reason)

    def _drop_depth(self, depth: _Waiting[DepthT], reason: DropReason) -> DroppedDepth[DepthT]:
        self._depth.waiting.remove(depth)
        return DroppedDepth(depth.stamp_ns, depth.payload, reason)

    def _drop_beyond(self, limit_ns: float, reason: DropReason) -> list[Event[ColorT, DepthT]]:
        colors = [color for color in self._color.waiting if color.stamp_ns > limit_ns]
        depths = [depth for depth in self._depth.waiting if depth.stamp_ns > limit_ns]
        return [
            *(self._drop_color(color, reason) for color in colors),
            *(self._drop_depth(depth, reason) for depth in depths),
        ]
