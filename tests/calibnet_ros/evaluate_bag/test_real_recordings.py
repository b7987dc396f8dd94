"""Both real recordings, with depth steps for objects."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from calibnet_core.structures import Instances
from calibnet_ros.evaluate_bag.main import main
from calibnet_ros.parameters import pipeline_config
from tests.support.shared import shared_file
from tests.support.stub_predictor import StubPredictor

pytestmark = pytest.mark.ros


class NearThings(StubPredictor):
    """Finds the largest regions that are nearer than most of the picture."""

    def predict_frame(self, frame, settings, scale):
        depth_m = np.nan_to_num(frame.depth_m, nan=np.inf)
        near = ndimage.binary_opening(depth_m < np.nanpercentile(frame.depth_m, 35), iterations=2)
        regions, count = ndimage.label(near)
        areas = np.bincount(regions.ravel(), minlength=count + 1)[1:]
        largest = [int(k) for k in np.argsort(-areas, kind="stable")[:4] if areas[k] > 500]
        masks = np.array([regions == k + 1 for k in largest], bool).reshape(-1, *frame.size)
        return Instances.from_masks(masks, np.linspace(0.9, 0.6, len(masks)).astype(np.float32))


@pytest.mark.parametrize("name", ["ycbv_0000_16uc1_mcap", "ycbv_0000_32fc1_sqlite3"])
def test_a_real_recording_is_answered_frame_by_frame(name: str, tmp_path: Path) -> None:
    path = shared_file(f"data/bags/{name}/metadata.yaml").parent
    output = tmp_path / "out"
    code = main(
        [str(path), "--output", str(output)],
        make_predictor=lambda values: NearThings(pipeline_config(values)),
    )
    assert code == 0
    report = json.loads((output / "report.json").read_text())
    messages, waiting = report["messages"], report["waiting"]
    assert report["frames"] == report["pairs"] == messages["color"] - waiting["color"] >= 3
    assert sum(report["drops"].values()) == sum(report["drops_of_depth"].values()) == 0
    assert report["offset_ms"]["max"] < 15
    assert 0.5 < report["depth"]["valid_mean"] < 1.0
    assert report["geometry"]["ok"] > 0.8 * report["instances"]["total"] > 0
    assert report["tracks"]["mask_iou_mean"] > 0.5
