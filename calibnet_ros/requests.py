"""Requests for one frame: they wait for it in the executor, and the worker answers them."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.exceptions import InvalidHandle
from rclpy.node import Node
from rclpy.task import Future

from calibnet_ros.srv import SegmentOnce

Code = SegmentOnce.Response
DEFAULT_TIMEOUT_S = 5.0
_LONGEST_TIMEOUT_S = 3600.0
_NS_PER_S = 1_000_000_000


@dataclass(eq=False)
class FrameRequest:
    """One client that waits for a frame.

    Attributes:
        not_before_ns: the colour stamp must not be older.
        timeout_s: longest wait.
        score_threshold: None for the node's parameter.
        include_label_image, include_cloud: what the client wants beside the instances.
        asked_at: monotonic time of the request.
        on_stage: told of each stage as `Segment.Feedback` numbers them; called from any thread.
    """

    not_before_ns: int
    timeout_s: float
    score_threshold: float | None
    include_label_image: bool
    include_cloud: bool
    on_stage: Callable[[int], None] = lambda stage: None
    reply: Future = field(default_factory=Future)
    asked_at: float = field(default_factory=time.monotonic)

    def is_answered_by(self, stamp_ns: int, paired_at: float) -> bool:
        """Whether a pair is late enough."""
        if self.not_before_ns == 0:
            return paired_at >= self.asked_at
        return self.not_before_ns <= stamp_ns


@dataclass(frozen=True, eq=False)
class Reply:
    """What a request ends with; `parts` are further fields of the response."""

    code: int
    message: str = ""
    parts: dict[str, Any] = field(default_factory=dict)

    def fill(self, response: Any) -> Any:
        """Write the reply into the response of a service or the result of an action."""
        response.success = self.code == Code.OK
        response.error_code = int(self.code)
        response.message = self.message
        for name, value in self.parts.items():
            setattr(response, name, value)
        return response


def request_from(goal: Any) -> FrameRequest:
    """Read the fields that the service's request and the action's goal share.

    Raises:
        ValueError: one is out of range; the message names it.
    """
    threshold = float(goal.score_threshold)
    if not (math.isnan(threshold) or 0.0 <= threshold <= 1.0):
        raise ValueError(f"score_threshold is {threshold}; choose 0 to 1, or NaN for the parameter")
    timeout_s = float(goal.timeout)
    if not 0.0 <= timeout_s <= _LONGEST_TIMEOUT_S:
        raise ValueError(f"timeout is {timeout_s} s; choose 0 to {_LONGEST_TIMEOUT_S:g}")
    return FrameRequest(
        not_before_ns=goal.not_before.sec * _NS_PER_S + goal.not_before.nanosec,
        timeout_s=timeout_s or DEFAULT_TIMEOUT_S,
        score_threshold=None if math.isnan(threshold) else threshold,
        include_label_image=bool(goal.include_label_image),
        include_cloud=bool(goal.include_cloud),
    )


class FrameRequests:
    """The requests of one camera, for as long as the node lives. `wait` belongs to the executor.

    Args:
        node: has the executor.
        describe_wait: says what is missing while nothing comes, for the message of a timeout.
    """

    def __init__(self, node: Node, describe_wait: Callable[[], str]) -> None:
        self._node, self._describe_wait = node, describe_wait
        self._lock = threading.Lock()
        self._waiting: list[FrameRequest] = []
        self._wall = Clock(clock_type=ClockType.STEADY_TIME)
        # A future that is set by another thread does not wake the executor; this does.
        self._wake = node.create_guard_condition(lambda: None)

    async def wait(self, request: FrameRequest) -> Reply:
        """Wait until the request is answered, cancelled, or its time is up."""
        if request.reply.done():
            return request.reply.result()
        timer = self._node.create_timer(
            request.timeout_s, lambda: self._time_out(request), clock=self._wall
        )
        with self._lock:
            self._waiting.append(request)
        try:
            return await request.reply
        finally:
            self._node.destroy_timer(timer)

    def due(self, stamp_ns: int, paired_at: float) -> list[FrameRequest]:
        """Take out the requests that a pair answers.

        Args:
            stamp_ns: of the colour image.
            paired_at: monotonic time of pairing; one that was there before the request is no answer
                to "the next".
        """
        with self._lock:
            found = [entry for entry in self._waiting if entry.is_answered_by(stamp_ns, paired_at)]
            self._waiting = [entry for entry in self._waiting if entry not in found]
        return found

    def wants(self, stamp_ns: int) -> bool:
        """Whether a request waits that a colour image of this stamp would answer."""
        with self._lock:
            now = time.monotonic()
            return any(entry.is_answered_by(stamp_ns, now) for entry in self._waiting)

    def answer(self, request: FrameRequest, reply: Reply) -> None:
        """End a request; the first answer counts."""
        with self._lock:
            if request in self._waiting:
                self._waiting.remove(request)
            if request.reply.done():
                return
            request.reply.set_result(reply)
        self._wake_executor()

    def aside(self, call: Callable[[], Any]) -> Future:
        """Run `call` in a thread of its own; the future holds what it returns or raises."""
        future = Future()

        def run() -> None:
            try:
                result = call()
            except Exception as error:  # whoever awaits it decides what that means
                future.set_exception(error)
            else:
                future.set_result(result)
            self._wake_executor()

        threading.Thread(target=run, name="calibnet-aside", daemon=True).start()
        return future

    def destroy(self) -> None:
        """Give back what the node holds. Call it while no request waits."""
        self._node.destroy_guard_condition(self._wake)

    def _wake_executor(self) -> None:
        with suppress(InvalidHandle):  # the node may have ended meanwhile
            self._wake.trigger()

    def answer_all(self, reply: Reply) -> None:
        """End every request that waits."""
        with self._lock:
            waiting = list(self._waiting)
        for request in waiting:
            self.answer(request, reply)

    def _time_out(self, request: FrameRequest) -> None:
        message = f"no frame of that time was answered within {request.timeout_s:g} s"
        if what_is_missing := self._describe_wait():
            message += f"; {what_is_missing}"
        self.answer(request, Reply(Code.TIMEOUT, message))
