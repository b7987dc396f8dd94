"""The perception node with a stub for a network: `python -m tests.support.stub_perception_node`.

Everything but the network is the real thing. The stub finds the connected regions of pure red,
green, blue and white; the colour fixes the score, and `mask_quality` tells the median depth inside
the region, so that a test sees which depth the node decoded. The top-left pixel may bear an order.

Environment: STUB_INFERENCE_S and STUB_LOADING_S, seconds that an inference and the loading take.
What the stub does is printed, one line each, for tests to wait for.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from calibnet_core.pipeline import ModelInfo
from calibnet_core.postprocess import NonFiniteOutputError
from calibnet_core.structures import Instances, RgbdFrame, StageTimings
from calibnet_ros import outputs, perception_node
from calibnet_ros.parameters import Values, pipeline_config

SCORES = {(255, 0, 0): 0.9, (0, 255, 0): 0.8, (0, 0, 255): 0.7, (255, 255, 255): 0.6}
"""Score by colour."""
METRES_OF_FULL_QUALITY = 10.0
"""`mask_quality` is the median depth divided by this."""

# Orders in the top-left pixel.
FAIL = (1, 2, 3)
NOT_FINITE = (1, 2, 4)
SEE_NOTHING = (1, 2, 5)
_SLEEP = (1, 3)
_SLEEP_STEP_S = 0.05

MODEL_INFO = ModelInfo(name="stub", weights_sha256="57ab" * 16, device="cpu")


def sleep_order(seconds: float) -> tuple[int, int, int]:
    """The order to take `seconds` longer, in steps of 0.05 up to 12.75."""
    return (*_SLEEP, round(seconds / _SLEEP_STEP_S))


class StubPipeline:
    """Stands in for `calibnet_core.Pipeline`."""

    def __init__(self, values: Values) -> None:
        say("loading")
        time.sleep(float(os.environ.get("STUB_LOADING_S", 0)))
        self.config = pipeline_config(values)
        self.model_info = MODEL_INFO
        self._inference_s = float(os.environ.get("STUB_INFERENCE_S", 0))
        self._is_busy = False

    def predict_timed(self, frame: RgbdFrame) -> tuple[Instances, StageTimings]:
        if self._is_busy:  # the real pipeline does not allow it either
            say("two inferences at once")
        self._is_busy = True
        try:
            return self._predict(frame), StageTimings(
                preprocess_ms=1.0, inference_ms=2.0, postprocess_ms=3.0
            )
        finally:
            self._is_busy = False

    def _predict(self, frame: RgbdFrame) -> Instances:
        say(f"inferring {frame.stamp_ns}")
        order = tuple(int(value) for value in frame.rgb[0, 0])
        extra_s = order[2] * _SLEEP_STEP_S if order[:2] == _SLEEP else 0.0
        time.sleep(self._inference_s + extra_s)
        if order == FAIL:
            raise RuntimeError("the stub was told to fail")
        if order == NOT_FINITE:
            raise NonFiniteOutputError("the stub was told to answer NaN")
        if order == SEE_NOTHING:
            return Instances.empty(frame.size)
        return self._regions(frame)

    def _regions(self, frame: RgbdFrame) -> Instances:
        settings = self.config.inference
        found: list[tuple[float, NDArray[np.bool_]]] = []
        for color, score in SCORES.items():
            regions, count = ndimage.label((frame.rgb == color).all(axis=2))
            masks = [regions == index + 1 for index in range(count)]
            if score > settings.score_threshold:
                found += [(score, mask) for mask in masks if mask.sum() >= settings.min_area]
        found = found[: settings.max_instances]
        masks = np.array([mask for _, mask in found], np.bool_).reshape(-1, *frame.size)
        return Instances.from_masks(
            masks,
            np.array([score for score, _ in found], np.float32),
            mask_quality=np.array([_depth_inside(frame, mask) for mask in masks], np.float32),
        )


def _depth_inside(frame: RgbdFrame, mask: NDArray[np.bool_]) -> float:
    assert frame.depth_m is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a median of nothing but NaN is NaN
        return float(np.nanmedian(frame.depth_m[mask])) / METRES_OF_FULL_QUALITY


def say(text: str) -> None:
    """Print a line that tests wait for."""
    print(f"stub: {text}", flush=True)


def spied(function: Callable[..., Any], text: str) -> Callable[..., Any]:
    """The same function, which also says that it was called."""

    def spy(*args: Any, **options: Any) -> Any:
        say(text)
        return function(*args, **options)

    return spy


if __name__ == "__main__":
    outputs.draw_instances = spied(outputs.draw_instances, "drew an overlay")
    outputs.label_image_to_msg = spied(outputs.label_image_to_msg, "drew a label image")
    sys.exit(perception_node.main(make_pipeline=StubPipeline))
