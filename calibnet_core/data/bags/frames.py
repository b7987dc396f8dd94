"""From the messages of a recording to RGB-D frames, with an account of what made none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from calibnet_core.data.bags.reading import BagMessage, RgbdBag
from calibnet_core.perception.frame_assembly import frame_from_images
from calibnet_core.perception.image_codec import ImageFormatError
from calibnet_core.perception.pairing import (
    BackwardJump,
    DroppedColor,
    DroppedDepth,
    Event,
    Pair,
    PairerConfig,
    StampPairer,
)
from calibnet_core.perception.received_image import (
    ReceivedImage,
    receive_color,
    receive_compressed_color,
    receive_compressed_depth,
    receive_depth,
)
from calibnet_core.structures import RgbdFrame

_BagEvent = Event[BagMessage, BagMessage]


@dataclass(frozen=True)
class RejectedImage:
    """A colour-depth pair that made no frame, or an image without a usable stamp.

    Attributes:
        topic: the topic at fault, both topics where the two do not fit together.
        stamp_ns: its acquisition time in nanoseconds, that of the colour image for a pair.
        reason: what is wrong.
    """

    topic: str
    stamp_ns: int
    reason: str


@dataclass
class BagReport:
    """What became of the images of a recording; it grows while the frames are read.

    Attributes:
        num_pairs: colour images that found their depth image.
        num_frames: pairs delivered as frames; the others are in `rejected`.
        unpaired_color, unpaired_depth: images without partner, counted by reason.
        rejected: images that are damaged or cannot be understood.
        num_without_intrinsics: frames delivered without intrinsics although their topic was
            recorded.
        num_backward_jumps: how often time restarted.
        max_offset_ns: largest distance of the stamps within a pair.
    """

    num_pairs: int = 0
    num_frames: int = 0
    unpaired_color: Counter[str] = field(default_factory=Counter)
    unpaired_depth: Counter[str] = field(default_factory=Counter)
    rejected: list[RejectedImage] = field(default_factory=list)
    num_without_intrinsics: int = 0
    num_backward_jumps: int = 0
    max_offset_ns: int = 0


def read_frames(
    bag: RgbdBag, report: BagReport | None = None, *, pairing: PairerConfig | None = None
) -> Iterator[RgbdFrame]:
    """Pair and decode the images of a recording, in the order in which the pairs complete.

    An image that is damaged, or of unknown encoding, or a pair of different sizes, is noted in the
    report and skipped.

    Args:
        bag: from `open_rgbd_bag`.
        report: filled while frames are read; give one to learn what was left out.
        pairing: how colour and depth are paired; None takes the defaults of the node.

    Yields:
        Frames with `depth_m`, named after the recording and the colour stamp.

    Raises:
        BagError: the recording is damaged; the frames before the damage have been yielded.
    """
    report = BagReport() if report is None else report
    pairer: StampPairer[BagMessage, BagMessage] = StampPairer(pairing)
    infos = _InfoTrack(bag)
    for message in bag.messages():
        if message.kind == "info":
            infos.update(message)
        elif message.stamp_ns == 0:
            reason = "it has no stamp, so it cannot be paired; let the driver stamp its images"
            report.rejected.append(RejectedImage(message.topic, 0, reason))
        else:
            add = pairer.add_color if message.kind == "color" else pairer.add_depth
            yield from _frames_of(add(message.stamp_ns, message), bag, infos, report)
    yield from _frames_of(pairer.finish(), bag, infos, report)


class _InfoTrack:
    """The newest CameraInfo, or the first of the recording while none has come by."""

    def __init__(self, bag: RgbdBag) -> None:
        self._bag = bag
        self._info: Any = None

    def update(self, message: BagMessage) -> None:
        # A damaged CameraInfo leaves the one before in force; intrinsics rarely change.
        self._info = message.decoded() or self._info

    def newest(self) -> Any:
        """The CameraInfo in force, or None."""
        if self._info is None and self._bag.info_topic is not None:
            # Drivers may publish the first image before its CameraInfo.
            message = next((m for m in self._bag.messages() if m.kind == "info"), None)
            self._info = message.decoded() if message is not None else None
        return self._info


def _frames_of(
    events: Iterable[_BagEvent], bag: RgbdBag, infos: _InfoTrack, report: BagReport
) -> Iterator[RgbdFrame]:
    for event in events:
        if isinstance(event, DroppedColor):
            report.unpaired_color[event.reason.value] += 1
        elif isinstance(event, DroppedDepth):
            report.unpaired_depth[event.reason.value] += 1
        elif isinstance(event, BackwardJump):
            report.num_backward_jumps += 1
        else:
            report.num_pairs += 1
            report.max_offset_ns = max(report.max_offset_ns, abs(event.offset_ns))
            try:
                frame = _decode_pair(event, bag, infos, report)
            except _RejectedError as error:
                image = RejectedImage(error.topic, event.color_stamp_ns, str(error))
                report.rejected.append(image)
            else:
                report.num_frames += 1
                yield frame


class _RejectedError(ValueError):
    def __init__(self, topic: str, reason: str) -> None:
        super().__init__(reason)
        self.topic = topic


def _decode_pair(
    pair: Pair[BagMessage, BagMessage], bag: RgbdBag, infos: _InfoTrack, report: BagReport
) -> RgbdFrame:
    color, depth = pair.color.decoded(), pair.depth.decoded()
    for message, image in ((pair.color, color), (pair.depth, depth)):
        if image is None:
            raise _RejectedError(message.topic, "the message is cut off or damaged")
    seconds, nanoseconds = divmod(pair.color_stamp_ns, 1_000_000_000)
    topic = pair.color.topic
    try:
        received_color = _read_color(bag, color, pair.color_stamp_ns)
        topic = pair.depth.topic
        received_depth = _read_depth(bag, depth, pair.depth_stamp_ns)
        topic = f"{pair.color.topic} and {pair.depth.topic}"
        frame = frame_from_images(
            received_color,
            received_depth,
            camera_info=infos.newest(),
            name=f"{bag.name}_{seconds}_{nanoseconds:09d}",
        )
    except ImageFormatError as error:
        raise _RejectedError(topic, str(error)) from error
    report.num_without_intrinsics += bag.info_topic is not None and frame.intrinsics is None
    return frame


def _read_color(bag: RgbdBag, msg: Any, stamp_ns: int) -> ReceivedImage:
    if bag.color_transport == "raw":
        return receive_color(msg, stamp_ns)
    return _decompressed(receive_compressed_color(msg, stamp_ns))


def _read_depth(bag: RgbdBag, msg: Any, stamp_ns: int) -> ReceivedImage:
    if bag.depth_transport == "raw":
        return receive_depth(msg, stamp_ns)
    return _decompressed(receive_compressed_depth(msg, stamp_ns))


def _decompressed(image: ReceivedImage) -> ReceivedImage:
    """The same with its pixels, so that damage is told of the topic it is in."""
    pixels_and_encoding = image.read()
    return replace(image, read=lambda: pixels_and_encoding)
