"""From a recording to the node's answers, message by message and without playback.

Playback drops large messages and is timed anew on every run. Here the messages go in log order
through the same intake, processor and message makers as in the node, so the answers are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from calibnet_core.data.bags import BagError, BagMessage, RgbdBag
from calibnet_core.perception.accounting import DropReason, FrameLedger, LedgerSnapshot
from calibnet_core.perception.image_codec import ImageFormatError
from calibnet_core.perception.intake import FrameIntake, FramePair
from calibnet_core.perception.pairing import BackwardJump
from calibnet_core.perception.perceiver import Perceiver, Perception
from calibnet_core.perception.received_image import ReceivedImage
from calibnet_core.processor import Predictor, Processor, Task
from calibnet_core.structures import NonFiniteOutputError, StageTimings
from calibnet_ros.frame_input import cv_bridge_decoder
from calibnet_ros.messages import OUTPUTS, FrameAccount, OutputOptions, instances_to_msg
from calibnet_ros.parameter_schema import Values
from calibnet_ros.parameters import intake_settings, output_options, processor_settings


@dataclass(frozen=True, eq=False)
class OfflineAnswer:
    """What the node would have published for one pair.

    Attributes:
        perception: of the pair.
        account: sequence, offset and model; times are NaN, for nothing is measured in a recording.
        timings: what the stages took here, for reports of speed.
        log_ns: log time of the message that completed the pair, in nanoseconds.
        options: how messages are made.
    """

    perception: Perception
    account: FrameAccount
    timings: StageTimings
    log_ns: int
    options: OutputOptions

    def messages(self) -> Iterator[tuple[str, Any]]:
        """Topic name below the node's own, and message, of every output that has one."""
        yield "instances", instances_to_msg(self.perception, self.account, self.options)
        for output in OUTPUTS:
            message = output.make(self.perception, self.options)
            if message is not None:
                yield output.name, message


def evaluate_recording(
    bag: RgbdBag, predictor: Predictor, values: Values
) -> Iterator[OfflineAnswer]:
    """The answers to a recording, in the order in which the node would publish them.

    Args:
        bag: the recording.
        predictor: the pipeline.
        values: parameters of the node by name.
    """
    return Replay(bag, predictor, values).answers()


class Replay:
    """One way through a recording; afterwards it tells what became of the messages.

    Which messages the image topics hold, raw or compressed, is taken from the recording, and noted
    where the parameters say otherwise. What the node's clock decides does not happen:
    `input.max_age` drops nothing, and `sync.use_arrival_time` takes the log time. Images that wait
    for a partner at the end stay waiting, for the node would not have answered them either. Where
    images come before the first CameraInfo, the first of the recording holds from the start: a node
    that ran before the recording began would have had it.

    Args:
        bag: the recording.
        predictor: the pipeline.
        values: parameters of the node by name.
        on_color: told the stamp of each colour image, in log order, before it is paired.

    Attributes:
        num_infos: CameraInfo messages met.
        notes: the first sentence of each kind of fault.
        damage: why reading ended early; empty while nothing is wrong.
    """

    def __init__(
        self,
        bag: RgbdBag,
        predictor: Predictor,
        values: Values,
        *,
        on_color: Callable[[int], None] = lambda stamp_ns: None,
    ) -> None:
        self._bag, self._on_color = bag, on_color
        settings = processor_settings(values)
        self._options = output_options(values)
        self._processor = Processor(predictor, settings)
        self._perceiver = Perceiver(settings.perception)
        self._pairs: list[FramePair] = []
        self._sequence = 0
        self._listener = _Listener()
        self._ledger = FrameLedger()
        self._note_transports(values)
        self._intake = FrameIntake(
            replace(
                intake_settings(values),
                color_transport=bag.color_transport,
                depth_transport=bag.depth_transport,
            ),
            ledger=self._ledger,
            listener=self._listener,
            on_pair=self._pairs.append,
            decoder=cv_bridge_decoder(),
        )
        self.num_infos = 0
        self.damage = ""

    @property
    def notes(self) -> list[str]:
        """The first sentence of each kind of fault, in the order they were met."""
        return list(self._listener.notes.values())

    def counts(self) -> LedgerSnapshot:
        """The counters, checked.

        Raises:
            LedgerImbalance: a message was lost.
        """
        snapshot = self._intake.snapshot(len(self._pairs))
        snapshot.check()
        return snapshot

    def answers(self) -> Iterator[OfflineAnswer]:
        """Read the recording; the answers come one at a time."""
        try:
            self._begin_with_info()
            for message in self._bag.messages():
                self._take(message)
                while self._pairs:
                    answer = self._answer(self._pairs.pop(0), message.log_ns)
                    if answer is not None:
                        yield answer
        except BagError as error:
            # The folder that the recording is in must not show in reports.
            self.damage = str(error).replace(f"{self._bag.path}", self._bag.path.name)

    def _note_transports(self, values: Values) -> None:
        bag = self._bag
        for label, name, topic, transport in (
            ("colour", "input.color_transport", bag.color_topic, bag.color_transport),
            ("depth", "input.depth_transport", bag.depth_topic, bag.depth_transport),
        ):
            if transport != values[name]:
                self._listener.notes[name] = (
                    f"{label} was read from {topic} ({transport}), as it was recorded; {name} is "
                    f"{values[name]}, which holds for the node alone"
                )

    def _begin_with_info(self) -> None:
        if self._bag.info_topic is None:
            return
        infos = (message.decoded() for message in self._bag.messages() if message.kind == "info")
        with suppress(BagError):  # what comes before the damage is still to be answered
            info = next((info for info in infos if info is not None), None)
            if info is not None:
                self._intake.add_info(info)

    def _take(self, message: BagMessage) -> None:
        if message.kind == "color":
            self._on_color(message.stamp_ns)
        msg = message.decoded()
        if message.kind == "info":
            self.num_infos += 1
            if msg is not None:  # the one before stays in force
                self._intake.add_info(msg)
        elif msg is None:
            self._damaged(message)
        elif message.kind == "color":
            self._intake.add_color(msg, message.log_ns)
        else:
            self._intake.add_depth(msg, message.log_ns)

    def _damaged(self, message: BagMessage) -> None:
        reason = DropReason.DECODE_ERROR
        if message.kind == "color":
            self._ledger.color_received()
            self._ledger.color_dropped(reason)
        else:
            self._ledger.depth_received()
            self._ledger.depth_dropped(reason)
        self._listener.dropped(message.kind, reason, "the message is cut off or damaged")

    def _answer(self, pair: FramePair, log_ns: int) -> OfflineAnswer | None:
        (answer,) = self._processor.process([Task(pair, self._perceiver)])
        if answer.perception is None or answer.timings is None:
            assert answer.error is not None
            reason = _reason_of(answer.error)
            self._ledger.pair_dropped(reason)
            self._listener.dropped("pair", reason, str(answer.error))
            return None
        self._ledger.published()
        self._sequence += 1
        account = FrameAccount(
            sequence=self._sequence,
            depth_offset_ns=pair.offset_ns,
            model_id=self._processor.predictor.model_info.model_id,
        )
        return OfflineAnswer(answer.perception, account, answer.timings, log_ns, self._options)


class _Listener:
    """Keeps the first sentence of each kind of fault."""

    def __init__(self) -> None:
        self.notes: dict[str, str] = {}

    def dropped(self, stream: str, reason: DropReason, message: str) -> None:
        self.notes.setdefault(f"{stream} {reason.value}", f"{stream} dropped: {message}")

    def backward_jump(self, jump: BackwardJump) -> None:
        seconds = (jump.from_ns - jump.to_ns) / 1e9
        self.notes.setdefault("jump", f"time jumped back by {seconds:.3f} s; tracks began anew")

    def paired(self, color: ReceivedImage, depth: ReceivedImage) -> None:
        names = str(color.header.frame_id), str(depth.header.frame_id)
        if names[0] != names[1]:
            self.notes.setdefault(
                "frames",
                f"colour is in frame '{names[0]}' but depth in '{names[1]}'; depth is probably not "
                "aligned to colour",
            )

    def camera_info_changed(self, before: Any, now: Any) -> None:
        self.notes.setdefault("info", "the camera's calibration changed within the recording")


def _reason_of(error: Exception) -> DropReason:
    if isinstance(error, ImageFormatError):
        return error.reason
    if isinstance(error, NonFiniteOutputError):
        return DropReason.NOT_FINITE
    return DropReason.INFERENCE_ERROR
