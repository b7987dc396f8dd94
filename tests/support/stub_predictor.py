"""A stand-in for the network that knows nothing of ROS: it finds regions of pure colour.

The colour fixes the score, and `mask_quality` tells the median depth inside the region, so that a
test sees which depth reached the network.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from calibnet_core.config import InferenceConfig, PipelineConfig
from calibnet_core.structures import Instances, ModelInfo, RgbdFrame, StageTimings

SCORES = {(255, 0, 0): 0.9, (0, 255, 0): 0.8, (0, 0, 255): 0.7, (255, 255, 255): 0.6}
"""Score by colour."""
METRES_OF_FULL_QUALITY = 10.0
"""`mask_quality` is the median depth divided by this."""
MODEL_INFO = ModelInfo(name="stub", weights_sha256="57ab" * 16, device="cpu")
TIMINGS = StageTimings(preprocess_ms=1.0, inference_ms=2.0, postprocess_ms=3.0)


class StubPredictor:
    """Stands in for `calibnet_core.Pipeline`; subclasses may act before a frame is answered."""

    def __init__(self, config: PipelineConfig | None = None) -> None:
        self.config = PipelineConfig() if config is None else config
        self.model_info = MODEL_INFO

    def predict_batch(
        self,
        frames: Sequence[RgbdFrame],
        *,
        inference: InferenceConfig | None = None,
        scale: float = 1.0,
    ) -> tuple[list[Instances], StageTimings]:
        settings = self.config.inference if inference is None else inference
        return [self.predict_frame(frame, settings, scale) for frame in frames], TIMINGS

    def predict_frame(self, frame: RgbdFrame, settings: InferenceConfig, scale: float) -> Instances:
        """Regions of pure colour, best first; `scale` is of no account here."""
        return find_regions(frame, settings)


def find_regions(frame: RgbdFrame, settings: InferenceConfig) -> Instances:
    """Connected regions of the pure colours, best first."""
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
