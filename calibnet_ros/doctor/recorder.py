"""Takes in messages, live or recorded, and keeps what the checks need of them."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from calibnet_core.perception.image_codec import (
    ImageFormatError,
    color_to_rgb8,
    depth_to_metres,
)
from calibnet_core.perception.input_statistics import summarise_depth
from calibnet_core.perception.pairing import Pair, StampPairer
from calibnet_core.perception.received_image import (
    ColorDecoder,
    ReceivedImage,
    header_stamp_ns,
    receive_color,
    receive_compressed_color,
    receive_compressed_depth,
    receive_depth,
)
from calibnet_core.perception.registration import ColorAndDepth, edge_agreement
from calibnet_ros.doctor.facts import Choice, Form, InfoFacts, InputFacts, Role, StreamFacts

_NUM_SAMPLES = 5

Item = TypeVar("Item")


class EvenSample(Generic[Item]):
    """A few items spread evenly over a stream whose length nobody knows yet."""

    def __init__(self, limit: int = _NUM_SAMPLES) -> None:
        self._limit, self._stride, self._count = limit, 1, 0
        self.items: list[Item] = []

    def add(self, item: Item) -> None:
        """Offer the next item of the stream."""
        if self._count % self._stride == 0:
            self.items.append(item)
        self._count += 1
        if len(self.items) > self._limit:
            self.items, self._stride = self.items[::2], 2 * self._stride


class Recorder:
    """Fills the streams, camera infos and image measurements of `InputFacts`.

    Args:
        choice: the topics that the messages come from.
        decoder: reads colour encodings that are not read natively; None where there is none.
    """

    def __init__(self, choice: Choice, decoder: ColorDecoder | None = None) -> None:
        self._choice, self._decoder = choice, decoder
        self.streams: dict[Role, StreamFacts] = {
            role: StreamFacts()
            for role in ("color", "depth", "info", "depth_info")
            if choice.topic(role)  # type: ignore[arg-type]
        }
        self._infos: dict[Role, Any] = {}
        self._arrivals: list[tuple[Any, int]] = []
        self._pairer: StampPairer[ReceivedImage, ReceivedImage] = StampPairer()
        self._pairs: EvenSample[tuple[ReceivedImage, ReceivedImage]] = EvenSample()
        # For streams whose stamps do not pair: what was there together.
        self._neighbours: EvenSample[tuple[ReceivedImage, ReceivedImage]] = EvenSample()
        self._depths: EvenSample[ReceivedImage] = EvenSample()
        self._newest_color: ReceivedImage | None = None

    def add(self, role: Role, msg: Any, arrival_s: float | None = None) -> None:
        """Take in a message.

        Args:
            role: what its topic is for.
            msg: Image, CompressedImage or CameraInfo of any implementation; None where the bytes
                are no message.
            arrival_s: when it came, in seconds of the wall clock; None for a recording.
        """
        stream = self.streams[role]
        if msg is None:
            stream.num_damaged += 1
            return
        stamp_ns = header_stamp_ns(msg.header)
        stream.stamps_ns.append(stamp_ns)
        if arrival_s is not None and stamp_ns:
            stream.ages_s.append(arrival_s - stamp_ns / 1e9)
        if role in ("info", "depth_info"):
            self._infos[role] = msg
            return
        form = self._form(role, msg)
        stream.forms[form] = stream.forms.get(form, 0) + 1
        stream.image_bytes = max(stream.image_bytes, len(msg.data))
        self._arrivals.append((role, stamp_ns))
        try:
            image = self._receive(role, msg, stamp_ns)
        except ImageFormatError as error:
            stream.refusal = stream.refusal or str(error)
            return
        self._keep(role, image)

    def fill(self, facts: InputFacts) -> None:
        """Write down what was seen, after decoding a few images."""
        facts.streams, facts.arrivals = self.streams, self._arrivals
        facts.infos = {role: InfoFacts.from_message(msg) for role, msg in self._infos.items()}
        depths = [depth for depth in map(self._depth_m, self._depths.items) if depth is not None]
        if depths:
            facts.depth = summarise_depth(depths)
        facts.agreement = edge_agreement(self._comparable())

    def _form(self, role: Role, msg: Any) -> Form:
        frame_id = str(msg.header.frame_id)
        if self._choice.transport(role) != "raw":
            return Form(str(msg.format), None, frame_id)
        return Form(str(msg.encoding), (int(msg.height), int(msg.width)), frame_id)

    def _receive(self, role: Role, msg: Any, stamp_ns: int) -> ReceivedImage:
        is_raw = self._choice.transport(role) == "raw"
        if role == "color":
            if is_raw:
                return receive_color(msg, stamp_ns, self._decoder)
            return receive_compressed_color(msg, stamp_ns)
        return receive_depth(msg, stamp_ns) if is_raw else receive_compressed_depth(msg, stamp_ns)

    def _keep(self, role: Role, image: ReceivedImage) -> None:
        events: list[Any] = []
        if role == "color":
            self._newest_color = image
            if image.stamp_ns:
                events = self._pairer.add_color(image.stamp_ns, image)
        else:
            self._depths.add(image)
            if self._newest_color is not None:
                self._neighbours.add((self._newest_color, image))
            if image.stamp_ns:
                events = self._pairer.add_depth(image.stamp_ns, image)
        for event in events:
            if isinstance(event, Pair):
                self._pairs.add((event.color, event.depth))

    def _comparable(self) -> list[ColorAndDepth]:
        """Decoded pairs of one size."""
        chosen: list[ColorAndDepth] = []
        for color, depth in self._pairs.items or self._neighbours.items:
            rgb, depth_m = self._rgb(color), self._depth_m(depth)
            if rgb is None or depth_m is None or rgb.shape[:2] != depth_m.shape:
                continue
            if not chosen or chosen[0][1].shape == depth_m.shape:
                chosen.append((rgb, depth_m))
        return chosen

    def _rgb(self, image: ReceivedImage) -> NDArray[np.uint8] | None:
        try:
            return color_to_rgb8(*image.read())
        except ImageFormatError as error:
            self.streams["color"].refusal = self.streams["color"].refusal or str(error)
            return None

    def _depth_m(self, image: ReceivedImage) -> NDArray[np.float32] | None:
        try:
            return depth_to_metres(*image.read())
        except ImageFormatError as error:
            self.streams["depth"].refusal = self.streams["depth"].refusal or str(error)
            return None
