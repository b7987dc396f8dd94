"""One small recording with its truth, rendered once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibnet_core.structures import RgbdFrame

Frames = list[tuple[RgbdFrame, np.ndarray]]

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")


@pytest.fixture(scope="session")
def frames() -> Frames:
    """Five frames; the second object is hidden in the third."""
    from tests.calibnet_ros.evaluate_bag.recordings import painted_frames

    return painted_frames(5, hidden={2: {2}})


@pytest.fixture(scope="session")
def recording(frames: Frames, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Depth is 4 ms late."""
    from tests.calibnet_ros.evaluate_bag.recordings import write_recording

    path = tmp_path_factory.mktemp("recording") / "tabletop"
    return write_recording(path, frames, depth_offset_ns=4_000_000)


@pytest.fixture(scope="session")
def truth(frames: Frames, recording: Path) -> Path:
    from tests.calibnet_ros.evaluate_bag.recordings import write_truth

    return write_truth(recording.parent / "truth.json", frames)
