from __future__ import annotations

import math
import subprocess
import sys
import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from calibnet_core.perception.accounting import DropReason
from calibnet_core.perception.image_codec import ImageFormatError
from calibnet_core.perception.intake import FramePair
from calibnet_core.perception.perceiver import FrameStatus, Perceiver, PerceptionSettings
from calibnet_core.perception.received_image import ReceivedImage, receive_color, receive_depth
from calibnet_core.processor import (
    REDUCED_SCALE,
    Answer,
    OutOfDeviceMemoryError,
    Processor,
    ProcessorSettings,
    Task,
)
from calibnet_core.structures import RgbdFrame
from tests.support.image_messages import camera_info, image
from tests.support.shared import REPOSITORY
from tests.support.stub_predictor import TIMINGS, StubPredictor

HEIGHT, WIDTH = 24, 32
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)  # scored 0.9, 0.8, 0.7
SETTINGS = ProcessorSettings()
LOWERED = SETTINGS.perception.network_threshold


WITHOUT_TORCH = """
import sys

import calibnet_core.processor
assert "torch" not in sys.modules, "importing the processor imported torch"

from tests.calibnet_core.test_processor import RED, SETTINGS, Processor, Recorder, pair, task

def fault(frames, scale):
    if scale == 1.0:
        raise MemoryError("of the host")

(answer,) = Processor(Recorder(fault), SETTINGS).process([task(pair(RED))])
assert isinstance(answer.error, MemoryError), answer
(answer,) = Processor(Recorder(), SETTINGS).process([task(pair(RED))])
assert len(answer.perception) == 1
assert "torch" not in sys.modules, "processing imported torch"
"""


class Recorder(StubPredictor):
    """Writes down each call; `fault` may raise for the frames of one."""

    def __init__(self, fault: Any = lambda frames, scale: None) -> None:
        super().__init__()
        self.fault = fault
        self.calls: list[tuple[int, float, float]] = []

    def predict_batch(self, frames, *, inference=None, scale=1.0):
        self.calls.append((len(frames), round(inference.score_threshold, 6), scale))
        self.fault(frames, scale)
        return super().predict_batch(frames, inference=inference, scale=scale)


def pair(*colors: tuple[int, int, int], index: int = 0, **changes: Any) -> FramePair:
    """Squares of these colours, 1 m away, at the time of frame `index`."""
    rgb = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    for place, color in enumerate(colors):
        rgb[6:18, 1 + 10 * place : 10 + 10 * place] = color
    stamp_ns = 1_000_000_000 + index * 100_000_000
    depth = image(np.full((HEIGHT, WIDTH), 1000, np.uint16), "16UC1", stamp_ns)
    values: dict[str, Any] = {
        "color": receive_color(image(rgb, "rgb8", stamp_ns), stamp_ns),
        "depth": receive_depth(depth, stamp_ns),
        "camera_info": camera_info(height=HEIGHT, width=WIDTH),
        "paired_at": 0.0,
    }
    return FramePair(**(values | changes))


def task(found: FramePair, threshold: float | None = None, **options: Any) -> Task:
    perceiver = options.pop("perceiver", None) or Perceiver(PerceptionSettings())
    return Task(found, perceiver, threshold, **options)


def scores(answer: Answer) -> list[float]:
    assert answer.perception is not None, answer.error
    return [round(float(score), 3) for score in answer.perception.instances.scores]


def unreadable(error: Exception) -> ReceivedImage:
    def read():
        raise error

    return ReceivedImage(pair().color.header, 1, read)


def holds(frames: Sequence[RgbdFrame], color: tuple[int, int, int]) -> bool:
    return any((frame.rgb == color).all(axis=2).any() for frame in frames)


def test_tasks_with_one_threshold_are_one_batch_and_answers_come_in_order() -> None:
    predictor = Recorder()
    tasks = [
        task(pair(RED)),
        task(pair(GREEN, BLUE), 0.75),
        task(pair(BLUE)),
        task(pair(BLUE, RED), 0.75),
    ]
    answers = Processor(predictor, SETTINGS).process(tasks)
    assert predictor.calls == [(2, pytest.approx(LOWERED), 1.0), (2, 0.75, 1.0)]
    assert [scores(answer) for answer in answers] == [[0.9], [0.8], [0.7], [0.9]]
    assert [answer.timings for answer in answers] == [TIMINGS] * 4
    assert Processor(predictor, SETTINGS).process([]) == []


def test_the_network_is_asked_by_the_settings_in_force() -> None:
    processor = Processor(Recorder(), SETTINGS)
    processor.settings = ProcessorSettings(perception=PerceptionSettings(score_threshold=0.85))
    perceiver = Perceiver(processor.settings.perception)
    (answer,) = processor.process([task(pair(RED, GREEN), perceiver=perceiver)])
    assert processor.predictor.calls == [(1, pytest.approx(0.75), 1.0)]
    assert scores(answer) == [0.9]


@pytest.mark.parametrize(
    ("spoiled", "kind"),
    [
        (
            {"depth": receive_depth(image(np.ones((2, 2), np.uint16), "16UC1"), 1)},
            DropReason.SIZE_MISMATCH,
        ),
        (
            {"color": unreadable(ImageFormatError("cut", DropReason.DECODE_ERROR))},
            DropReason.DECODE_ERROR,
        ),
        ({"color": unreadable(RuntimeError("a decoder's own"))}, RuntimeError),
    ],
)
def test_a_pair_that_makes_no_frame_costs_no_other(spoiled, kind) -> None:
    predictor = Recorder()
    tasks = [task(pair(RED)), task(pair(RED, **spoiled)), task(pair(BLUE))]
    first, bad, last = Processor(predictor, SETTINGS).process(tasks)
    assert (scores(first), scores(last)) == ([0.9], [0.7])
    assert predictor.calls == [(2, pytest.approx(LOWERED), 1.0)]
    assert bad.perception is None
    assert getattr(bad.error, "reason", type(bad.error)) is kind


def test_a_frame_that_the_network_fails_on_costs_no_other_of_its_batch() -> None:
    def fault(frames, scale):
        if holds(frames, GREEN):
            raise RuntimeError("no green")

    predictor = Recorder(fault)
    tasks = [task(pair(RED)), task(pair(GREEN)), task(pair(BLUE)), task(pair(GREEN), 0.1)]
    answers = Processor(predictor, SETTINGS).process(tasks)
    assert [call[0] for call in predictor.calls] == [3, 1, 1, 1, 1]
    told = [None if answer.error is None else str(answer.error) for answer in answers]
    assert told == [None, "no green", None, "no green"]
    assert (scores(answers[0]), scores(answers[2])) == ([0.9], [0.7])


def test_a_frame_that_cannot_be_perceived_costs_no_other() -> None:
    class Broken(Perceiver):
        def perceive(self, *arguments: Any, **options: Any):
            raise ArithmeticError("no geometry")

    broken = Broken(PerceptionSettings())
    tasks = [task(pair(RED), perceiver=broken), task(pair(RED)), task(pair(RED), 0.1)]
    answers = Processor(Recorder(), SETTINGS).process(tasks)
    assert isinstance(answers[0].error, ArithmeticError)
    assert [scores(answer) for answer in answers[1:]] == [[0.9], [0.9]]


class MemoryFault:
    """Raises as torch does, with what the call computed held by the traceback."""

    def __init__(self, is_too_much: Any) -> None:
        self._is_too_much = is_too_much
        self.held: weakref.ref[Any] = weakref.ref(lambda: None)

    def __call__(self, frames: Sequence[RgbdFrame], scale: float) -> None:
        import torch

        computed = np.zeros(3)
        self.held = weakref.ref(computed)
        if self._is_too_much(frames, scale):
            raise torch.OutOfMemoryError("CUDA out of memory")


def test_where_memory_runs_out_half_the_area_is_tried_and_told(monkeypatch) -> None:
    import torch

    fault, emptied = MemoryFault(lambda frames, scale: scale == 1.0), []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(fault.held() is None))
    predictor = Recorder(fault)
    (answer,) = Processor(predictor, SETTINGS).process([task(pair(RED))])
    assert [call[2] for call in predictor.calls] == [1.0, REDUCED_SCALE]
    assert math.isclose(REDUCED_SCALE**2, 0.5)
    assert scores(answer) == [0.9]
    assert answer.perception.status == FrameStatus.REDUCED_INPUT
    assert emptied == [True]  # what the first call held was free by then


def test_where_memory_runs_out_twice_the_answer_says_what_to_do_and_holds_no_memory() -> None:
    fault = MemoryFault(lambda frames, scale: True)
    (answer,) = Processor(Recorder(fault), SETTINGS).process([task(pair(RED))])
    assert isinstance(answer.error, OutOfDeviceMemoryError)
    assert str(answer.error).startswith("cpu has too little memory")
    assert "lower model.input_height" in str(answer.error)
    assert fault.held() is None


def test_a_batch_that_memory_does_not_suffice_for_is_done_one_by_one() -> None:
    predictor = Recorder(MemoryFault(lambda frames, scale: len(frames) > 1))
    answers = Processor(predictor, SETTINGS).process([task(pair(RED)), task(pair(BLUE))])
    sizes_and_scales = [(size, scale) for size, _, scale in predictor.calls]
    assert sizes_and_scales == [(2, 1.0), (2, REDUCED_SCALE), (1, 1.0), (1, 1.0)]
    assert [answer.perception.status for answer in answers] == [FrameStatus.OK] * 2


def test_a_colour_image_alone_is_answered_with_its_status() -> None:
    (answer,) = Processor(Recorder(), SETTINGS).process([task(pair(RED, depth=None))])
    assert answer.perception.status == FrameStatus.DEPTH_MISSING
    assert scores(answer) == [0.9]


def test_a_task_of_one_client_looks_up_tracks_and_leaves_them_alone() -> None:
    processor, perceiver = Processor(Recorder(), SETTINGS), Perceiver(PerceptionSettings())

    def ids(found: FramePair, threshold: float | None = None) -> list[tuple[int, int]]:
        (answer,) = processor.process([task(found, threshold, perceiver=perceiver)])
        assert answer.perception is not None
        return [(track.track_id, track.age) for track in answer.perception.tracks]

    assert ids(pair(RED, index=0)) == [(1, 1)]
    for _ in range(3):
        assert ids(pair(RED, GREEN, BLUE, index=1), 0.75) == [(1, 1), (0, 0)]
    assert ids(pair(RED, GREEN, index=1)) == [(1, 2), (2, 1)]


def test_up_reaches_the_perceiver_of_its_camera_and_the_network_comes_first() -> None:
    told: list[Any] = []

    class Attentive(Perceiver):
        def perceive(self, *arguments: Any, **options: Any):
            told.append(("perceive", options["up"]))
            return super().perceive(*arguments, **options)

        def glance(self, *arguments: Any, **options: Any):
            told.append(("glance", options["up"]))
            return super().glance(*arguments, **options)

    perceiver, up = Attentive(PerceptionSettings()), np.array([0.0, -1.0, 0.0])
    predictor = Recorder(lambda frames, scale: told.append("network"))
    tasks = [
        task(pair(RED), perceiver=perceiver, up=up),
        task(pair(RED), 0.1, perceiver=perceiver, up=up),
        task(pair(RED), perceiver=perceiver),
    ]
    Processor(predictor, SETTINGS).process(tasks, lambda: told.append("inferred"))
    first = ["network", "inferred", ("perceive", up), ("perceive", None)]
    assert told == [*first, "network", "inferred", ("glance", up)]


def test_an_image_that_several_ask_for_is_decoded_once() -> None:
    found, readings = pair(RED), []

    def read() -> Any:
        readings.append(1)
        return found.color.read()

    shared = replace(found, color=replace(found.color, read=read))
    answers = Processor(Recorder(), SETTINGS).process([task(shared), task(shared), task(shared, 0)])
    assert [answer.error for answer in answers] == [None] * 3
    assert len(readings) == 1


def test_frames_are_made_as_the_settings_say() -> None:
    settings = replace(SETTINGS, assembly=replace(SETTINGS.assembly, size_mismatch="resize_depth"))
    small = receive_depth(image(np.full((2, 2), 1000, np.uint16), "16UC1"), 1)
    (answer,) = Processor(Recorder(), settings).process([task(pair(RED, depth=small))])
    assert answer.perception.frame.depth_m.shape == (HEIGHT, WIDTH)
    assert answer.perception.frame.intrinsics.fx == 500


def test_torch_is_not_needed_until_a_network_is() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH], cwd=REPOSITORY, check=True, timeout=60)
