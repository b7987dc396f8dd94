"""One camera of the node: what lasts while it is configured, and what while it is active."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from rclpy.lifecycle import LifecycleNode

from calibnet_core.perception.accounting import DropReason, FrameLedger, LedgerSnapshot
from calibnet_core.perception.figures import StreamFigures
from calibnet_core.perception.intake import FrameIntake, FramePair
from calibnet_core.perception.mailbox import LatestSlot
from calibnet_core.perception.pairing import BackwardJump
from calibnet_core.perception.perceiver import Perceiver, Perception
from calibnet_core.perception.received_image import ReceivedImage
from calibnet_ros.frame_input import FrameInput, cv_bridge_decoder
from calibnet_ros.outputs import Outputs
from calibnet_ros.parameter_schema import Values
from calibnet_ros.parameters import intake_settings, processor_settings
from calibnet_ros.reports import Reporter
from calibnet_ros.requests import FrameRequests
from calibnet_ros.silence import SilenceWatch


class Camera:
    """What one camera has from configure to cleanup: publishers, tracks, newest results.

    Args:
        node: the node.
        name: empty for a camera without a name.
        values: parameters.
        reporter: is told of faults.
        requests: of this camera's clients.
    """

    def __init__(
        self,
        node: LifecycleNode,
        name: str,
        values: Values,
        *,
        reporter: Reporter,
        requests: FrameRequests,
    ) -> None:
        self.name, self.prefix = name, f"{name}/" if name else ""
        self.reporter = reporter
        self.outputs = Outputs(
            node, reporter, prefix=self.prefix, is_transformed=bool(values["output.frame"])
        )
        self.perceiver = Perceiver(processor_settings(values).perception)
        self.requests = requests
        self.stream: Stream | None = None
        self._newest: deque[Perception] = deque(maxlen=int(values["output.history"]))
        self._lock = threading.Lock()

    def destroy(self) -> None:
        """Give back what the node holds for this camera."""
        self.outputs.destroy()

    def remember(self, perception: Perception) -> None:
        """Keep a result for those who ask for it later."""
        with self._lock:
            self._newest.append(perception)

    def remembered(self) -> list[Perception]:
        """Kept results, the newest first."""
        with self._lock:
            return list(reversed(self._newest))

    def what_is_missing(self) -> str:
        """Why no frame comes, in words; empty where nothing is known."""
        stream = self.stream
        if stream is None:
            return "the node is not active; activate it"
        silent = stream.silence.check(stream.snapshot(), 0.5)
        return "; ".join(silent.values()) or self.reporter.last_error


@dataclass(eq=False)
class Stream:
    """What lives from one activation to the next deactivation.

    A worker that outlives its activation keeps counting into it, never into the next one.

    Attributes:
        camera: whose stream it is.
        ledger: counts.
        mailbox: hands the newest pair to the worker.
        input: subscriptions.
        silence: notices inputs from which nothing comes.
        figures: of the newest results.
        is_wanted: whether a pair of this stamp is to be processed.
        sequence: results published.
        skipped: pairs that a newer one replaced since the last result.
        calibration_fault: why the newest results have no geometry although a CameraInfo is there.
        withheld: results in another frame that were left out for want of a transform.
    """

    camera: Camera
    ledger: FrameLedger
    mailbox: LatestSlot[FramePair]
    input: FrameInput
    silence: SilenceWatch
    is_wanted: Callable[[int], bool]
    figures: StreamFigures = field(default_factory=StreamFigures)
    sequence: int = 0
    skipped: int = 0
    withheld: int = 0
    calibration_fault: str = ""

    @classmethod
    def open(
        cls,
        node: LifecycleNode,
        camera: Camera,
        values: Values,
        *,
        changed: threading.Condition,
        is_wanted: Callable[[int], bool],
        after_pair: Callable[[], None] = lambda: None,
    ) -> Stream:
        """Subscribe to a camera.

        Args:
            node: subscribes.
            camera: whose inputs.
            values: parameters.
            changed: the condition that all mailboxes of the node share.
            is_wanted: whether a pair of this colour stamp is to be processed.
            after_pair: see `FrameInput`.

        Raises:
            FilterError: `sync.mode` asks for message_filters and it is not installed.
        """
        ledger = FrameLedger()
        listener = _Listener(camera)
        intake = FrameIntake(
            intake_settings(values),
            ledger=ledger,
            listener=listener,
            on_pair=lambda pair: listener.stream.put(pair),
            decoder=cv_bridge_decoder(),
            is_urgent=camera.requests.wants,
        )
        source = FrameInput(
            node,
            values,
            intake,
            reporter=camera.reporter,
            prefix=camera.prefix,
            after_pair=after_pair,
        )
        stream = cls(
            camera=camera,
            ledger=ledger,
            mailbox=LatestSlot(changed),
            input=source,
            silence=SilenceWatch(node, source.topics, prefix=camera.prefix),
            is_wanted=is_wanted,
        )
        # No callback runs before this one ends, so none meets the listener without its stream.
        listener.stream = camera.stream = stream
        return stream

    def close(self) -> None:
        """Unsubscribe, and count what still waits as dropped."""
        self.input.close()
        with self.ledger.atomically():
            if self.mailbox.close() is not None:
                self.ledger.pair_dropped(DropReason.SHUTDOWN)
        self.camera.stream = None

    def put(self, pair: FramePair) -> None:
        """Hand a pair to the worker; the intake calls this while it holds the ledger."""
        if not self.is_wanted(pair.color.stamp_ns):
            self.ledger.pair_dropped(DropReason.PAUSED)
        elif self.mailbox.put(pair) is not None:
            self.skipped += 1
            self.ledger.pair_dropped(DropReason.SUPERSEDED)

    def take_skipped(self) -> int:
        """How many pairs a newer one replaced since this was last asked."""
        with self.ledger.atomically():
            skipped, self.skipped = self.skipped, 0
        return skipped

    def end(self, reason: DropReason | None) -> None:
        """Count the pair at hand where it ends: published, or dropped for a reason."""
        with self.ledger.atomically():
            if reason is None:
                self.ledger.published()
            else:
                self.ledger.pair_dropped(reason)
            self.mailbox.done()

    def snapshot(self) -> LedgerSnapshot:
        """The counters together with what is underway."""
        with self.ledger.atomically():
            return self.input.intake.snapshot(self.mailbox.in_flight)


class _Listener:
    """Passes on what the intake tells to the camera's reporter and figures."""

    stream: Stream

    def __init__(self, camera: Camera) -> None:
        self._reporter = camera.reporter

    def dropped(self, stream: str, reason: DropReason, message: str) -> None:
        self._reporter.dropped(stream, reason, message)

    def backward_jump(self, jump: BackwardJump) -> None:
        self.stream.figures.restart()
        self._reporter.backward_jump(jump)

    def paired(self, color: ReceivedImage, depth: ReceivedImage) -> None:
        self._reporter.frame_ids(color.header.frame_id, depth.header.frame_id)

    def camera_info_changed(self, before: object, now: object) -> None:
        self._reporter.camera_info_changed(before, now)
