"""What the worker does with the pairs at hand: infer, publish, answer requests, count."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from rclpy.lifecycle import LifecycleNode

from calibnet_core.perception.accounting import DropReason
from calibnet_core.perception.frame_assembly import calibration_fault
from calibnet_core.perception.geometry import GeometryStatus
from calibnet_core.perception.image_codec import ImageFormatError
from calibnet_core.perception.intake import FramePair
from calibnet_core.perception.mailbox import LatestSlot
from calibnet_core.perception.perceiver import Perception
from calibnet_core.perception.rigid import RigidTransform
from calibnet_core.processor import Answer, OutOfDeviceMemoryError, Processor, Task
from calibnet_core.structures import NonFiniteOutputError
from calibnet_ros.action import Segment
from calibnet_ros.messages import (
    FrameAccount,
    OutputOptions,
    label_image_to_msg,
    points_to_msg,
)
from calibnet_ros.parameter_schema import Values
from calibnet_ros.parameters import output_options
from calibnet_ros.requests import Code, FrameRequest, Reply
from calibnet_ros.stream import Stream
from calibnet_ros.transforms import TransformError, Transforms

FAILURES_UNTIL_ERROR = 3
_NOT_ACTIVE = Reply(Code.NOT_ACTIVE, "the node was deactivated meanwhile; activate it")


@dataclass(eq=False)
class _Job:
    """A pair, and who waits for it.

    Attributes:
        started: monotonic time at which the worker took it.
        transform: to `output.frame`, where measuring needs it and it is known.
        was_looked_up: whether the transform was asked for, found or not.
        threshold_of: request -> the threshold of the task that answers it; None for the stream's.
    """

    stream: Stream
    pair: FramePair
    requests: list[FrameRequest]
    started: float
    transform: RigidTransform | None = None
    was_looked_up: bool = False
    threshold_of: dict[FrameRequest, float | None] = field(default_factory=dict)


class Inference:
    """Handles pairs in the worker's thread, for one activation; nothing it does raises.

    Args:
        node: has the clock and the context.
        processor: of the node; `lock` guards it, since the worker of an earlier activation may
            still be at it.
        streams: of this activation.
        values: parameters; replaced when one changes.
        transforms: None where nothing is asked for in another frame.
        lock: see processor.
        give_up: called once after three failures in a row, or when nothing can be done any more.

    Attributes:
        is_current: False once the activation ended: nothing is published any more.
        is_enabled: False while paused: only requests are answered.
    """

    def __init__(
        self,
        node: LifecycleNode,
        processor: Processor,
        streams: Sequence[Stream],
        values: Values,
        *,
        transforms: Transforms | None,
        lock: threading.Lock,
        give_up: Callable[[str], None],
    ) -> None:
        self._transforms = transforms
        self._node, self._processor, self._lock = node, processor, lock
        self._streams = {id(stream.mailbox): stream for stream in streams}
        self._give_up = give_up
        self.values = values
        self.is_current = self.is_enabled = True
        self._failures = 0
        self._newest_failure = ""

    def handle(self, items: Sequence[tuple[LatestSlot[FramePair], FramePair]]) -> None:
        """Process pairs of different cameras together; each ends published or counted."""
        jobs = [job for mailbox, pair in items if (job := self._job(mailbox, pair))]
        tasks: list[Task] = []
        owners: list[tuple[_Job, float | None]] = []
        for job in jobs:
            for threshold in self._thresholds(job):
                up = None if job.transform is None else job.transform.up
                tasks.append(Task(job.pair, job.stream.camera.perceiver, threshold, up))
                owners.append((job, threshold))
            _tell(job.requests, Segment.Feedback.INFERRING)
        with self._lock:
            answers = self._processor.process(
                tasks,
                lambda: _tell([r for job in jobs for r in job.requests], Segment.Feedback.LIFTING),
            )
        for job in jobs:
            own = {
                threshold: answer
                for (owner, threshold), answer in zip(owners, answers, strict=True)
                if owner is job
            }
            try:
                reason = self._finish(job, own)
            except Exception as error:  # one bad frame must not end the worker
                reason = self._failed(job, error)
            job.stream.end(reason)
        self._count_failures(any(answer.perception is not None for answer in answers))

    def _job(self, mailbox: LatestSlot[FramePair], pair: FramePair) -> _Job | None:
        stream = self._streams[id(mailbox)]
        requests = stream.camera.requests.due(pair.color.stamp_ns, pair.paired_at)
        if not requests and self._is_too_old(pair):
            stream.end(DropReason.TOO_OLD)
            return None
        started = time.monotonic()
        # Who does not need it to measure looks it up when the result is out.
        is_upright = self.values["geometry.box_up_axis"] == "gravity"
        transform = self._transform(stream, pair) if is_upright else None
        return _Job(stream, pair, requests, started, transform, is_upright)

    def _transform(self, stream: Stream, pair: FramePair) -> RigidTransform | None:
        """The transform at the image's time, or None, which is counted and said."""
        if self._transforms is None or not self._transforms.target:
            return None
        try:
            return self._transforms.to_target(
                str(pair.color.header.frame_id),
                pair.color.acquired_ns,
                float(self.values["output.tf_timeout"]),
            )
        except TransformError as error:
            reason = str(error)
        except Exception as error:  # a listener that is being destroyed must not end the worker
            reason = f"{type(error).__name__}: {error}"
        stream.withheld += 1
        stream.camera.reporter.withheld("~/transformed/instances", reason)
        return None

    def _is_too_old(self, pair: FramePair) -> bool:
        max_age_s = float(self.values["input.max_age"])
        if max_age_s <= 0 or not self.is_current:  # then there may be no clock any more
            return False
        age_s = (self._node.get_clock().now().nanoseconds - pair.color.stamp_ns) / 1e9
        return age_s > max_age_s

    def _thresholds(self, job: _Job) -> list[float | None]:
        """One for each task that the job needs; None is the stream's own."""
        wanted: list[float | None] = [None] if self.is_enabled else []
        standing = None if self.is_enabled else float(self.values["detection.score_threshold"])
        for request in job.requests:
            asked = request.score_threshold
            threshold = job.threshold_of[request] = standing if asked is None else asked
            if threshold not in wanted:
                wanted.append(threshold)
        return wanted

    def _finish(self, job: _Job, answers: Mapping[float | None, Answer]) -> DropReason | None:
        if not self.is_current:
            for request in job.requests:
                job.stream.camera.requests.answer(request, _NOT_ACTIVE)
            return DropReason.SHUTDOWN
        options = output_options(self.values)
        reason: DropReason | None = DropReason.PAUSED
        messages = {}
        for threshold, answer in answers.items():
            if answer.perception is None:
                assert answer.error is not None
                failure = self._failed(job, answer.error)
                reason = failure if threshold is None else reason
                continue
            account = self._account(job, answer, is_published=threshold is None)
            if threshold is None:
                reason = None
                messages[threshold] = self._publish(job, answer, account, options)
            else:
                outputs = job.stream.camera.outputs
                messages[threshold] = outputs.result(answer.perception, account, options)
                if None not in answers:  # else the ids on the topic are those to look up
                    job.stream.camera.remember(answer.perception)
        for request in job.requests:
            answer = answers[job.threshold_of[request]]
            if answer.perception is not None:
                message = messages[job.threshold_of[request]]
                reply = _reply(request, answer.perception, message, options)
                job.stream.camera.requests.answer(request, reply)
        return reason

    def _account(self, job: _Job, answer: Answer, *, is_published: bool) -> FrameAccount:
        stream, timings = job.stream, answer.timings
        assert timings is not None
        if is_published:
            stream.sequence += 1
        return FrameAccount(
            sequence=stream.sequence if is_published else 0,
            depth_offset_ns=job.pair.offset_ns,
            skipped_since_last=stream.take_skipped() if is_published else 0,
            model_id=self._processor.predictor.model_info.model_id,
            queue_ms=(job.started - job.pair.paired_at) * 1e3,
            preprocess_ms=timings.preprocess_ms,
            inference_ms=timings.inference_ms,
            postprocess_ms=timings.postprocess_ms,
        )

    def _publish(
        self, job: _Job, answer: Answer, account: FrameAccount, options: OutputOptions
    ) -> object:
        assert answer.perception is not None
        started = time.monotonic()
        draws = bool(self.values["output.overlay"])
        message = job.stream.camera.outputs.publish(
            answer.perception,
            account,
            options,
            overlay_rate=float(self.values["output.overlay_rate"]) if draws else None,
        )
        self._publish_in_target(job, answer.perception, account, options)
        job.stream.camera.remember(answer.perception)
        ended = time.monotonic()
        stages_ms = {
            "queue": account.queue_ms,
            "preprocess": account.preprocess_ms,
            "inference": account.inference_ms,
            "postprocess": account.postprocess_ms,
            "publish": (ended - started) * 1e3,
            "total": (ended - job.pair.paired_at) * 1e3,
        }
        offset_ns = None if job.pair.depth is None else job.pair.offset_ns
        job.stream.figures.add(answer.perception, stages_ms, offset_ns)
        self._check_calibration(job, answer.perception)
        return message

    def _check_calibration(self, job: _Job, perception: Perception) -> None:
        """Say why there is no geometry although a CameraInfo is there."""
        info, stream = job.pair.camera_info, job.stream
        status = perception.geometry[0].status if len(perception) else GeometryStatus.OK
        if info is None or status != GeometryStatus.NO_CAMERA_INFO:
            stream.calibration_fault = "" if len(perception) else stream.calibration_fault
            return
        rectified = self._processor.settings.assembly.rectified
        fault = calibration_fault(info, perception.frame.size, rectified=rectified)
        stream.calibration_fault = f"the CameraInfo cannot be used: {fault}"
        stream.camera.reporter.withheld("geometry", stream.calibration_fault)

    def _publish_in_target(
        self, job: _Job, perception: Perception, account: FrameAccount, options: OutputOptions
    ) -> None:
        if self._transforms is None:
            return
        camera = job.stream.camera
        prefix = self._node.get_fully_qualified_name().lstrip("/") + f"/{camera.prefix}"
        try:
            if camera.outputs.has_listeners_in_target():
                transform = job.transform
                if not job.was_looked_up:
                    transform = self._transform(job.stream, job.pair)
                if transform is not None:
                    moved = transform.perception(perception, self._transforms.target)
                    camera.outputs.publish_transformed(moved, account, options)
            self._transforms.broadcast(perception, prefix)
        except Exception as error:  # the result itself is out already
            camera.reporter.withheld("transforms", f"{type(error).__name__}: {error}")

    def _failed(self, job: _Job, error: Exception) -> DropReason:
        """Report a failure, tell who waits for the pair, and say what to count."""
        reporter, requests = job.stream.camera.reporter, job.stream.camera.requests
        for request in job.requests:
            requests.answer(request, Reply(Code.FAILED, f"the frame could not be used: {error}"))
        if isinstance(error, ImageFormatError):
            reporter.dropped("pair", error.reason, str(error))
            return error.reason
        if not self._node.context.ok():  # interrupted: there is nobody left to publish to
            return DropReason.SHUTDOWN
        if isinstance(error, NonFiniteOutputError):
            info = self._processor.predictor.model_info
            reason = DropReason.NOT_FINITE
            text = (
                f"dropped a pair ({reason.value}): {error} (weights {info.weights_sha256[:16]} of "
                f"{info.name})"
            )
        else:
            reason = DropReason.INFERENCE_ERROR
            text = f"inference failed: {type(error).__name__}: {error}"
        reporter.failed(text)
        self._newest_failure = text
        if self.is_current and isinstance(error, OutOfDeviceMemoryError):
            self._give_up(str(error))
        return reason

    def _count_failures(self, has_succeeded: bool) -> None:
        """One moment that goes wrong counts once, for however many cameras and clients."""
        failure, self._newest_failure = self._newest_failure, ""
        if has_succeeded:
            self._failures = 0
        elif failure:
            self._failures += 1
            if self.is_current and self._failures >= FAILURES_UNTIL_ERROR:
                self._give_up(f"{self._failures} inferences in a row failed; the last: {failure}")


def _tell(requests: Sequence[FrameRequest], stage: int) -> None:
    for request in requests:
        with suppress(Exception):  # a client that is gone must not cost the others their answer
            request.on_stage(stage)


def _reply(
    request: FrameRequest, perception: Perception, message: object, options: OutputOptions
) -> Reply:
    parts = {"instances": message}
    try:
        if request.include_label_image:
            parts["label_image"] = label_image_to_msg(perception, options)
        if request.include_cloud and (cloud := points_to_msg(perception, options)) is not None:
            parts["cloud"] = cloud
    except Exception as error:  # the result itself is out already, and counted as such
        return Reply(Code.FAILED, f"the answer cannot be sent: {type(error).__name__}: {error}")
    return Reply(Code.OK, parts=parts)
