"""What the node says in its log: each fault in words, and not at the camera's rate."""

from __future__ import annotations

import threading
import time
from typing import Any

from calibnet_core.perception.accounting import DropReason
from calibnet_core.perception.pairing import BackwardJump

_REPEAT_S = 10.0


class Reporter:
    """Logs faults of the inputs, each kind at most every ten seconds. Thread-safe.

    Attributes:
        last_error: the newest fault, for diagnostics; empty while there was none.
    """

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._lock = threading.Lock()
        self._logged_at: dict[str, float] = {}
        self.last_error = ""
        self.last_error_at = 0.0

    def dropped(self, stream: str, reason: DropReason, message: str) -> None:
        """A message or a pair was dropped."""
        text = f"dropped {stream} ({reason.value}): {message}"
        self._remember(text)
        if self._is_due(f"{stream} {reason.value}"):
            self._logger.warning(text)

    def failed(self, message: str) -> None:
        """An inference failed."""
        self._remember(message)
        if self._is_due("failed"):
            self._logger.error(message)

    def backward_jump(self, jump: BackwardJump) -> None:
        """Time went back; pairing started anew."""
        seconds = (jump.from_ns - jump.to_ns) / 1e9
        self._logger.info(
            f"{jump.stream} stamps went back by {seconds:.3f} s, as in a bag that loops; "
            "pairing starts anew"
        )

    def clocks(self, ahead_s: float) -> None:
        """An image bears a stamp of the future."""
        text = (
            f"colour stamps are {ahead_s:.1f} s ahead of this node's clock, so ages cannot be "
            "told; synchronise the machines' clocks, or set use_sim_time when a bag plays with "
            "--clock"
        )
        self._remember(text)
        if self._is_due("clocks"):
            self._logger.warning(text)

    def frame_ids(self, color: str, depth: str) -> None:
        """Colour and depth were paired; unequal frames are worth one warning."""
        if color != depth and self._is_due(f"frames {color} {depth}", once=True):
            self._logger.warning(
                f"colour is in frame '{color}' but depth in '{depth}': depth is probably not "
                "aligned to colour; switch alignment on in the camera driver"
            )

    def forget(self) -> None:
        """Begin with a clean slate, after a deliberate clean-up."""
        with self._lock:
            self.last_error, self.last_error_at = "", 0.0

    def _remember(self, text: str) -> None:
        with self._lock:
            self.last_error, self.last_error_at = text, time.monotonic()

    def _is_due(self, kind: str, *, once: bool = False) -> bool:
        now = time.monotonic()
        with self._lock:
            last = self._logged_at.get(kind)
            if last is not None and (once or now - last < _REPEAT_S):
                return False
            self._logged_at[kind] = now
            return True
