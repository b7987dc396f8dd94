"""Pairs in, perceptions out: what the node's worker and the evaluation of recordings both run."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from calibnet_core.config import InferenceConfig, PipelineConfig
from calibnet_core.perception.frame_assembly import AssemblySettings, frame_from_images
from calibnet_core.perception.intake import FramePair
from calibnet_core.perception.perceiver import Perceiver, Perception, PerceptionSettings
from calibnet_core.structures import Instances, ModelInfo, RgbdFrame, StageTimings

REDUCED_SCALE = math.sqrt(0.5)
"""Edges of an image of half the area, relative to the whole."""


class Predictor(Protocol):
    """What is needed of a pipeline; tests hand in a stub."""

    config: PipelineConfig
    model_info: ModelInfo

    def predict_batch(
        self,
        frames: Sequence[RgbdFrame],
        *,
        inference: InferenceConfig | None = None,
        scale: float = 1.0,
    ) -> tuple[list[Instances], StageTimings]:
        """Segment frames in one go; see `calibnet_core.pipeline.Pipeline`."""


@dataclass(frozen=True, kw_only=True)
class ProcessorSettings:
    """How pairs become frames, and what happens after the network."""

    assembly: AssemblySettings = field(default_factory=AssemblySettings)
    perception: PerceptionSettings = field(default_factory=PerceptionSettings)


@dataclass(frozen=True, eq=False)
class Task:
    """A pair and the perceiver of its camera.

    Attributes:
        pair: what to process.
        perceiver: of the camera.
        score_threshold: None for the stream's own; else only one client asks, and tracks are looked
            up but not changed.
        up: (3,) unit vector against gravity in the optical frame, if known.
    """

    pair: FramePair
    perceiver: Perceiver
    score_threshold: float | None = None
    up: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class Answer:
    """What came of a task: `perception`, or the `error` that ended it."""

    perception: Perception | None = None
    timings: StageTimings | None = None
    error: Exception | None = None


class OutOfDeviceMemoryError(RuntimeError):
    """The device has too little memory, also for an image of half the area."""


class Processor:
    """Runs the network on the pairs of one or more cameras. Not safe for concurrent calls.

    Args:
        predictor: the pipeline.
        settings: may be replaced between calls.
    """

    def __init__(self, predictor: Predictor, settings: ProcessorSettings) -> None:
        self.predictor, self.settings = predictor, settings

    def process(
        self, tasks: Sequence[Task], on_inferred: Callable[[], None] = lambda: None
    ) -> list[Answer]:
        """Process tasks in one batch where they share a threshold; one failing costs no other.

        Args:
            tasks: at most one that changes tracks for each camera.
            on_inferred: called between the network and what follows it.

        Returns:
            An answer each. Errors are `ImageFormatError` for a pair that makes no frame,
            `NonFiniteOutputError` and `OutOfDeviceMemoryError` from the network, or whatever a
            device may raise.
        """
        answers: dict[int, Answer] = {}
        frames: dict[int, RgbdFrame] = {}  # by pair: several clients may ask for one
        batches: dict[float | None, list[tuple[int, RgbdFrame]]] = {}
        for index, task in enumerate(tasks):
            pair = task.pair
            try:
                if id(pair) not in frames:
                    frames[id(pair)] = frame_from_images(
                        pair.color,
                        pair.depth,
                        self.settings.assembly,
                        camera_info=pair.camera_info,
                    )
            except Exception as error:  # what a decoder raises must cost this pair alone
                answers[index] = Answer(error=error)
            else:
                batches.setdefault(task.score_threshold, []).append((index, frames[id(pair)]))
        for threshold, batch in batches.items():
            answers |= self._predict(tasks, batch, threshold, on_inferred)
        return [answers[index] for index in range(len(tasks))]

    def _predict(
        self,
        tasks: Sequence[Task],
        batch: list[tuple[int, RgbdFrame]],
        threshold: float | None,
        on_inferred: Callable[[], None],
    ) -> dict[int, Answer]:
        try:
            found, timings, is_reduced = self._infer([frame for _, frame in batch], threshold)
        except Exception as error:
            if len(batch) == 1:
                return {batch[0][0]: Answer(error=error)}
            parts = [self._predict(tasks, [entry], threshold, on_inferred) for entry in batch]
            return {index: answer for part in parts for index, answer in part.items()}
        on_inferred()
        answers = {}
        for (index, frame), instances in zip(batch, found, strict=True):
            task = tasks[index]
            perceive = task.perceiver.perceive if threshold is None else task.perceiver.glance
            try:
                perception = perceive(
                    frame,
                    instances,
                    has_depth=task.pair.depth is not None,
                    is_reduced=is_reduced,
                    up=task.up,
                )
            except Exception as error:
                answers[index] = Answer(error=error)
            else:
                answers[index] = Answer(perception, timings)
        return answers

    def _infer(
        self, frames: list[RgbdFrame], threshold: float | None
    ) -> tuple[list[Instances], StageTimings, bool]:
        if threshold is None:
            threshold = self.settings.perception.network_threshold
        inference = replace(self.predictor.config.inference, score_threshold=threshold)
        for scale in (1.0, REDUCED_SCALE):
            try:
                found, timings = self.predictor.predict_batch(
                    frames, inference=inference, scale=scale
                )
            except Exception as error:
                if not _is_out_of_device_memory(error):
                    raise
            else:
                return found, timings, scale < 1.0
            # Not in the clause above, and no cause below: the error's traceback keeps the tensors.
            _free_device_memory()
        raise OutOfDeviceMemoryError(
            f"{self.predictor.model_info.device} has too little memory, also at half the input "
            "area; end what else uses it, or lower model.input_height and model.input_width"
        )


def _is_out_of_device_memory(error: Exception) -> bool:
    torch = sys.modules.get("torch")  # where it was never loaded, the error cannot be one of its
    return torch is not None and isinstance(error, torch.OutOfMemoryError)


def _free_device_memory() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
