"""The perception node with a stub for a network: `python -m tests.support.stub_perception_node`.

Everything but the network is the real thing; see `StubPredictor` for what it finds. The top-left
pixel may bear an order.

Environment: STUB_INFERENCE_S and STUB_LOADING_S, seconds that an inference and the loading take.
What the stub does is printed, one line each, for tests to wait for.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from calibnet_core.config import InferenceConfig
from calibnet_core.structures import Instances, NonFiniteOutputError, RgbdFrame, StageTimings
from calibnet_ros import command, outputs
from calibnet_ros.parameter_schema import Values
from calibnet_ros.parameters import pipeline_config
from tests.support.stub_predictor import MODEL_INFO, StubPredictor, find_regions

__all__ = ["MODEL_INFO"]

# Orders in the top-left pixel.
FAIL = (1, 2, 3)
NOT_FINITE = (1, 2, 4)
SEE_NOTHING = (1, 2, 5)
FULL_MEMORY = (1, 2, 6)
"""Out of memory at the whole size, not at a reduced one."""
NO_MEMORY = (1, 2, 7)
"""Out of memory at any size."""
_SLEEP = (1, 3)
_SLEEP_STEP_S = 0.05


def sleep_order(seconds: float) -> tuple[int, int, int]:
    """The order to take `seconds` longer, in steps of 0.05 up to 12.75."""
    return (*_SLEEP, round(seconds / _SLEEP_STEP_S))


class ObedientPredictor(StubPredictor):
    """A stub that says what it does and takes orders."""

    def __init__(self, values: Values) -> None:
        say("loading")
        time.sleep(float(os.environ.get("STUB_LOADING_S", 0)))
        super().__init__(pipeline_config(values))
        self._inference_s = float(os.environ.get("STUB_INFERENCE_S", 0))
        self._is_busy = False

    def predict_batch(
        self, frames: Sequence[RgbdFrame], **options: Any
    ) -> tuple[list[Instances], StageTimings]:
        if self._is_busy:  # the real pipeline does not allow it either
            say("two inferences at once")
        self._is_busy = True
        try:
            if len(frames) > 1:
                say(f"a batch of {len(frames)}")
            return super().predict_batch(frames, **options)
        finally:
            self._is_busy = False

    def predict_frame(self, frame: RgbdFrame, settings: InferenceConfig, scale: float) -> Instances:
        say(f"inferring {frame.stamp_ns}")
        order = tuple(int(value) for value in frame.rgb[0, 0])
        extra_s = order[2] * _SLEEP_STEP_S if order[:2] == _SLEEP else 0.0
        time.sleep(self._inference_s + extra_s)
        if order == FAIL:
            raise RuntimeError("the stub was told to fail")
        if order == NOT_FINITE:
            raise NonFiniteOutputError("the stub was told to answer NaN")
        if order == NO_MEMORY or (order == FULL_MEMORY and scale == 1.0):
            raise torch.OutOfMemoryError("the stub was told to find no memory")
        if order == SEE_NOTHING:
            return Instances.empty(frame.size)
        return find_regions(frame, settings)


def say(text: str) -> None:
    """Print a line that tests wait for, and in which thread it was said."""
    print(f"stub: {text} ({threading.current_thread().name})", flush=True)


def spied(function: Callable[..., Any], text: str) -> Callable[..., Any]:
    """The same function, which also says that it was called."""

    def spy(*args: Any, **options: Any) -> Any:
        say(text)
        return function(*args, **options)

    return spy


if __name__ == "__main__":
    outputs.OUTPUTS = tuple(
        replace(output, make=spied(output.make, f"made {output.name}"))
        for output in outputs.OUTPUTS
    )
    sys.exit(command.main(make_pipeline=ObedientPredictor))
