"""The perception node with a stand-in for the network that finds five objects at once.

python benchmarks/instant_node.py HEIGHTxWIDTH [--ros-args ...]
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # these sources, whatever is installed

from calibnet_core.config import InferenceConfig, PipelineConfig
from calibnet_core.structures import Instances, ModelInfo, RgbdFrame, StageTimings

REPOSITORY = Path(__file__).resolve().parents[1]
SIDE, NUM_OBJECTS = 100, 5


def set_environment(profile: str = "fastdds_profile_loopback.xml") -> None:
    """Keep traffic on this machine, with room for images in shared memory; call it before rclpy.

    Args:
        profile: file in config/.
    """
    path = str(REPOSITORY / "config" / profile)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"] = path
    os.environ["FASTDDS_DEFAULT_PROFILES_FILE"] = path
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 101))


class FiveObjects:
    """Answers at once with the same five objects of about 100x100 pixels.

    Args:
        height, width: of the images, at least 400 and 600 pixels.
    """

    def __init__(self, height: int, width: int) -> None:
        masks = np.zeros((NUM_OBJECTS, height, width), np.bool_)
        rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE // 2
        disc = rows**2 + columns**2 < (SIDE // 2) ** 2
        for mask, (top, left) in zip(masks, object_corners(), strict=True):
            mask[top : top + SIDE, left : left + SIDE] = disc
        scores = np.linspace(0.95, 0.75, NUM_OBJECTS).astype(np.float32)
        self._instances = Instances.from_masks(masks, scores)
        self.config = PipelineConfig()
        self.model_info = ModelInfo(name="five_objects", weights_sha256="5" * 64, device="cpu")

    def predict_batch(
        self,
        frames: Sequence[RgbdFrame],
        *,
        inference: InferenceConfig | None = None,
        scale: float = 1.0,
    ) -> tuple[list[Instances], StageTimings]:
        """The same for every frame of the right size, nothing for others."""
        timings = StageTimings(preprocess_ms=0.0, inference_ms=0.0, postprocess_ms=0.0)
        size = self._instances.masks.shape[1:]
        return [
            self._instances if frame.size == size else Instances.empty(frame.size)
            for frame in frames
        ], timings


def object_corners() -> list[tuple[int, int]]:
    """Rows and columns of the objects' top-left corners."""
    return [(60, 40), (60, 270), (60, 490), (290, 150), (290, 400)]


def main() -> int:
    """Run the node."""
    from calibnet_ros import command

    height, width = (int(edge) for edge in sys.argv[1].split("x"))
    return command.main(sys.argv[2:], make_pipeline=lambda values: FiveObjects(height, width))


if __name__ == "__main__":
    sys.exit(main())
