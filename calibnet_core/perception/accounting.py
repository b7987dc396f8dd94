"""Counting every message from arrival to publication, and checking that none went missing."""

from __future__ import annotations

import math
import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

import numpy as np


class DropReason(str, Enum):
    """Why a message or a pair was not used. The value is the word shown in diagnostics."""

    NO_PARTNER = "no_partner"
    SUPERSEDED = "superseded"
    DUPLICATE = "duplicate"
    TOO_OLD = "too_old"
    BAD_ENCODING = "bad_encoding"
    BAD_SIZE = "bad_size"
    BAD_STAMP = "bad_stamp"
    DECODE_ERROR = "decode_error"
    SIZE_MISMATCH = "size_mismatch"
    NOT_FINITE = "not_finite"
    PAUSED = "paused"
    OVER_RATE = "over_rate"
    INFERENCE_ERROR = "inference_error"
    RESET = "reset"
    SHUTDOWN = "shutdown"


class LedgerImbalance(AssertionError):  # noqa: N818 (it is the law that fails, not the caller)
    """The counters contradict each other: a message was lost, or counted twice."""


@dataclass(frozen=True, kw_only=True)
class LedgerSnapshot:
    """The counters of one `FrameLedger`, beside what its owner says is still underway."""

    received_color: int
    received_depth: int
    received_info: int
    paired: int
    paired_without_depth: int
    """How many of `paired` are colour frames that went on alone."""
    dropped_color: Mapping[DropReason, int]
    dropped_depth: Mapping[DropReason, int]
    dropped_pairs: Mapping[DropReason, int]
    published: int
    backward_jumps: int
    waiting_color: int
    """Colour messages that wait for a depth message, as the pairer reports it."""
    waiting_depth: int | None
    """Depth messages that wait for a colour message; None leaves the depth law unchecked."""
    in_flight: int
    """Pairs between pairing and publication, as the mailbox reports it."""

    def check(self) -> None:
        """Check that every message is accounted for.

        Raises:
            LedgerImbalance: if a law fails; the message names the law and shows both sides.
        """
        self._check_law(
            "received_color == paired + dropped_color + waiting_color",
            self.received_color,
            (self.paired, sum(self.dropped_color.values()), self.waiting_color),
        )
        self._check_law(
            "paired == published + dropped_pairs + in_flight",
            self.paired,
            (self.published, sum(self.dropped_pairs.values()), self.in_flight),
        )
        if self.waiting_depth is not None:
            self._check_law(
                "received_depth == paired with depth + dropped_depth + waiting_depth",
                self.received_depth,
                (
                    self.paired - self.paired_without_depth,
                    sum(self.dropped_depth.values()),
                    self.waiting_depth,
                ),
            )

    @staticmethod
    def _check_law(law: str, whole: int, parts: tuple[int, ...]) -> None:
        missing = whole - sum(parts)
        if missing == 0:
            return
        fault = (
            f"{missing} left without being counted; count them where they are let go"
            if missing > 0
            else f"{-missing} counted twice; find the path that counts on two exits"
        )
        numbers = " + ".join(str(part) for part in parts)
        raise LedgerImbalance(f"{law} fails: {whole} != {numbers}; {fault}")


class FrameLedger:
    """Thread-safe counters for one camera, from arrival to publication.

    The ledger counts arrivals and exits and never looks at a queue. What still waits is told to
    `snapshot` by the pairer and the mailbox, so `LedgerSnapshot.check` compares two independent
    accounts.

    A step that changes both a counter and a queue belongs inside `atomically`, and so does the
    snapshot; otherwise a snapshot taken between the two halves is out by one.
    """

    def __init__(self) -> None:
        # Reentrant, so that the counting methods also work inside `atomically`.
        self._lock = threading.RLock()
        self._clear()

    def _clear(self) -> None:
        self._received_color = 0
        self._received_depth = 0
        self._received_info = 0
        self._paired = 0
        self._paired_without_depth = 0
        self._published = 0
        self._backward_jumps = 0
        self._dropped_color: Counter[DropReason] = Counter()
        self._dropped_depth: Counter[DropReason] = Counter()
        self._dropped_pairs: Counter[DropReason] = Counter()

    @contextmanager
    def atomically(self) -> Iterator[None]:
        """Hold the ledger still, so that no other thread counts or takes a snapshot meanwhile."""
        with self._lock:
            yield

    def color_received(self) -> None:
        """Count a colour message on arrival, before anything else can go wrong with it."""
        with self._lock:
            self._received_color += 1

    def depth_received(self) -> None:
        """Count a depth message on arrival."""
        with self._lock:
            self._received_depth += 1

    def info_received(self) -> None:
        """Count a camera info message on arrival."""
        with self._lock:
            self._received_info += 1

    def color_dropped(self, reason: DropReason) -> None:
        """Count a colour message that ends without a pair."""
        with self._lock:
            self._dropped_color[reason] += 1

    def depth_dropped(self, reason: DropReason) -> None:
        """Count a depth message that ends without a pair."""
        with self._lock:
            self._dropped_depth[reason] += 1

    def paired(self, *, with_depth: bool = True) -> None:
        """Count a pair, or with `with_depth=False` a colour frame that goes on alone."""
        with self._lock:
            self._paired += 1
            self._paired_without_depth += not with_depth

    def pair_dropped(self, reason: DropReason) -> None:
        """Count a pair that ends without a publication."""
        with self._lock:
            self._dropped_pairs[reason] += 1

    def published(self) -> None:
        """Count a pair whose result was published, an empty result included."""
        with self._lock:
            self._published += 1

    def backward_jumped(self) -> None:
        """Count a jump of the stamps back in time."""
        with self._lock:
            self._backward_jumps += 1

    def reset(self) -> None:
        """Set every counter to zero. Call it while nothing waits and nothing is in flight."""
        with self._lock:
            self._clear()

    def snapshot(
        self, *, waiting_color: int, in_flight: int, waiting_depth: int | None = None
    ) -> LedgerSnapshot:
        """Copy the counters.

        Args:
            waiting_color: colour messages in the pairer, `StampPairer.waiting_color`.
            in_flight: pairs between pairing and publication, `LatestSlot.in_flight`.
            waiting_depth: depth messages in the pairer; None leaves the depth law unchecked.
        """
        with self._lock:
            return LedgerSnapshot(
                received_color=self._received_color,
                received_depth=self._received_depth,
                received_info=self._received_info,
                paired=self._paired,
                paired_without_depth=self._paired_without_depth,
                dropped_color=MappingProxyType(dict(self._dropped_color)),
                dropped_depth=MappingProxyType(dict(self._dropped_depth)),
                dropped_pairs=MappingProxyType(dict(self._dropped_pairs)),
                published=self._published,
                backward_jumps=self._backward_jumps,
                waiting_color=waiting_color,
                waiting_depth=waiting_depth,
                in_flight=in_flight,
            )


@dataclass(frozen=True, kw_only=True)
class LatencySummary:
    """Percentiles of one `LatencyWindow`, in milliseconds; NaN while the window is empty."""

    count: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


class LatencyWindow:
    """The newest latencies of one processing stage. Thread-safe."""

    def __init__(self, size: int = 512) -> None:
        """Keep the newest `size` latencies.

        Raises:
            ValueError: if `size` is below 1.
        """
        if size < 1:
            raise ValueError(f"a latency window of size {size} holds nothing; choose 1 or more")
        self._latencies_s: deque[float] = deque(maxlen=size)
        self._lock = threading.Lock()

    def add(self, latency_s: float) -> None:
        """Add one latency in seconds.

        Raises:
            ValueError: if it is negative or not finite.
        """
        if not (math.isfinite(latency_s) and latency_s >= 0.0):
            raise ValueError(
                f"a latency of {latency_s} s is impossible; take both times from a monotonic clock"
            )
        with self._lock:
            self._latencies_s.append(latency_s)

    def clear(self) -> None:
        """Forget every latency, for instance after time jumped back."""
        with self._lock:
            self._latencies_s.clear()

    def percentiles(self) -> LatencySummary:
        """Return the percentiles of what the window holds, interpolated linearly."""
        with self._lock:
            latencies_s = list(self._latencies_s)
        if not latencies_s:
            return LatencySummary(count=0, p50_ms=math.nan, p95_ms=math.nan, p99_ms=math.nan)
        p50_ms, p95_ms, p99_ms = 1000.0 * np.percentile(latencies_s, (50, 95, 99))
        return LatencySummary(
            count=len(latencies_s),
            p50_ms=float(p50_ms),
            p95_ms=float(p95_ms),
            p99_ms=float(p99_ms),
        )
