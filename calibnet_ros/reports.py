"""What the node says in its log: each fault in words, and not at the camera's rate."""

from __future__ import annotations

import threading
import time
from typing import Any

from calibnet_core.perception.accounting import DropReason
from calibnet_core.perception.pairing import BackwardJump

_REPEAT_S = 10.0


class Reporter:
    """Logs faults of one camera, each kind at most every ten seconds. Thread-safe.

    Args:
        logger: of the node.
        camera: its name, put before every line; empty for a camera without one.

    Attributes:
        last_error: the newest fault, for diagnostics; empty while there was none.
        last_error_at: its monotonic time.
    """

    def __init__(self, logger: Any, camera: str = "") -> None:
        self._logger, self._prefix = logger, f"{camera}: " if camera else ""
        self._lock = threading.Lock()
        self._logged_at: dict[str, float] = {}
        self.last_error = ""
        self.last_error_at = 0.0

    def dropped(self, stream: str, reason: DropReason, message: str) -> None:
        """A message or a pair was dropped."""
        text = f"dropped {stream} ({reason.value}): {message}"
        self.remember(text)
        if self._is_due(f"{stream} {reason.value}"):
            self._logger.warning(self._prefix + text)

    def incompatible(self, text: str) -> None:
        """A publisher or a subscriber cannot be connected."""
        self.remember(text)
        if self._is_due(text, once=True):
            self._logger.warning(self._prefix + text)

    def withheld(self, what: str, why: str) -> None:
        """An output was left out for a frame."""
        text = f"{what} withheld: {why}"
        self.remember(text)
        if self._is_due(f"withheld {what}"):
            self._logger.warning(self._prefix + text)

    def color_encoding(self, encoding: str) -> None:
        """A colour image came; an encoding that does not name its channels is worth one line."""
        if encoding in ("8UC3", "8UC4") and self._is_due(f"encoding {encoding}", once=True):
            self._logger.info(
                f"{self._prefix}colour images are {encoding}, which does not say what their "
                "channels are; they are taken for blue, green, red"
            )

    def camera_info_changed(self, before: Any, now: Any) -> None:
        """The camera's calibration changed while it runs, as it does with every zoom or focus."""
        if self._is_due("camera info"):
            self._logger.info(
                f"{self._prefix}the camera info changed: {_calibration_in_words(before)} became "
                f"{_calibration_in_words(now)}; geometry follows it from now on"
            )

    def failed(self, message: str) -> None:
        """An inference failed."""
        self.remember(message)
        if self._is_due("failed"):
            self._logger.error(self._prefix + message)

    def backward_jump(self, jump: BackwardJump) -> None:
        """Time went back; pairing started anew."""
        seconds = (jump.from_ns - jump.to_ns) / 1e9
        self._logger.info(
            f"{self._prefix}{jump.stream} stamps went back by {seconds:.3f} s, as in a bag that "
            "loops; pairing starts anew"
        )

    def clocks(self, ahead_s: float) -> None:
        """An image bears a stamp of the future."""
        text = (
            f"colour stamps are {ahead_s:.1f} s ahead of this node's clock, so ages cannot be "
            "told; synchronise the machines' clocks, or set use_sim_time when a bag plays with "
            "--clock"
        )
        self.remember(text)
        if self._is_due("clocks"):
            self._logger.warning(self._prefix + text)

    def frame_ids(self, color: str, depth: str) -> None:
        """Colour and depth were paired; unequal frames are worth one warning."""
        if color != depth and self._is_new("frames", f"frames {color} {depth}"):
            self._logger.warning(
                f"{self._prefix}colour is in frame '{color}' but depth in '{depth}': depth is "
                "probably not aligned to colour; switch alignment on in the camera driver"
            )
        if color.endswith("_link") and self._is_new("link", f"link {color}"):
            self._logger.info(
                f"{self._prefix}the frame '{color}' is taken for an optical one (x right, y down, "
                "z forward), though a name in _link mostly is not; check the driver's frame names "
                "if 3D results look rotated"
            )

    def forget(self) -> None:
        """Begin with a clean slate, after a deliberate clean-up."""
        with self._lock:
            self.last_error, self.last_error_at = "", 0.0

    def remember(self, text: str) -> None:
        """Keep a fault for diagnostics without logging it."""
        with self._lock:
            self.last_error, self.last_error_at = text, time.monotonic()

    def _is_new(self, group: str, kind: str) -> bool:
        """Whether a kind is told for the first time, at most one of its group every ten seconds.

        A publisher whose names change all the time must fill neither the log nor the memory.
        """
        with self._lock:
            if kind in self._logged_at:
                return False
        return self._is_due(group) and self._is_due(kind, once=True)

    def _is_due(self, kind: str, *, once: bool = False) -> bool:
        now = time.monotonic()
        with self._lock:
            last = self._logged_at.get(kind)
            if last is not None and (once or now - last < _REPEAT_S):
                return False
            self._logged_at[kind] = now
            return True


def _calibration_in_words(info: Any) -> str:
    return (
        f"{info.width}x{info.height}, f = ({info.k[0]:.1f}, {info.k[4]:.1f}), "
        f"c = ({info.k[2]:.1f}, {info.k[5]:.1f}), {info.distortion_model or 'no distortion model'}"
    )
