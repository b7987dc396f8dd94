"""The perception node with a recording's own label images in place of a network.

Everything but the masks is what a robot gets.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibnet_core.config import InferenceConfig
from calibnet_core.data.bags import read_labels
from calibnet_core.structures import Instances, ModelInfo, RgbdFrame, StageTimings
from calibnet_ros import command
from calibnet_ros.parameter_schema import Values
from calibnet_ros.parameters import pipeline_config

_NO_TIME = StageTimings(preprocess_ms=0.0, inference_ms=0.0, postprocess_ms=0.0)


class KnownAnswers:
    """Answers a frame with the objects of the label image that bears its stamp.

    Args:
        labels: (H, W) uint16 by stamp in nanoseconds: 0 background, k object k.
        values: parameters of the node.
    """

    def __init__(self, labels: Mapping[int, NDArray[np.uint16]], values: Values) -> None:
        self._labels = labels
        self.config = pipeline_config(values)
        self.model_info = ModelInfo(name="known_answers", weights_sha256="0" * 64, device="cpu")

    def predict_batch(
        self,
        frames: Sequence[RgbdFrame],
        *,
        inference: InferenceConfig | None = None,
        scale: float = 1.0,
    ) -> tuple[list[Instances], StageTimings]:
        """Look the frames up; one without labels has no objects."""
        return [self._look_up(frame) for frame in frames], _NO_TIME

    def _look_up(self, frame: RgbdFrame) -> Instances:
        labels = self._labels.get(frame.stamp_ns)
        if labels is None or labels.shape != frame.size:
            return Instances.empty(frame.size)
        masks = np.array([labels == label for label in np.unique(labels[labels > 0])], np.bool_)
        masks = masks.reshape(-1, *frame.size)
        return Instances.from_masks(masks, np.ones(len(masks), np.float32))


def main() -> int:
    """Run the node; the first argument is the recording, the rest is for ROS."""
    labels = dict(read_labels(Path(sys.argv[1])))
    return command.main(sys.argv[2:], make_pipeline=lambda values: KnownAnswers(labels, values))


if __name__ == "__main__":
    sys.exit(main())
