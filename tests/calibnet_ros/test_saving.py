"""A frame with its answer as a folder."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from calibnet_core.data.bags import open_rgbd_bag, read_frames
from calibnet_core.perception.geometry import GeometryStatus, ObjectGeometry
from calibnet_core.perception.mask_codec import label_image
from calibnet_core.visualization import draw_perception
from calibnet_ros.parameter_schema import DEFAULTS
from calibnet_ros.saving import save_frame
from tests.support.perceptions import STAMP_NS, discs, known_geometry, make_perception

pytestmark = pytest.mark.ros

SIZE = (24, 32)
CONTENT = {"recording", "overlay.png", "label_image.png", "result.json"}


def perception(**options):
    return make_perception(discs(SIZE, 2), track_ids=[7, 9], scores=[0.75, 0.5], **options)


def save(folder, seen):
    return save_frame(folder, seen, model_id="stub-57ab57ab", values=DEFAULTS)


@pytest.mark.parametrize(("encoding", "step_m"), [("16UC1", 0.001), ("32FC1", 0.0)])
def test_the_frame_comes_back_as_a_recording_with_pictures_of_the_answer(
    tmp_path, encoding, step_m
):
    seen = perception(frame={"depth_encoding": encoding})
    path = save(tmp_path / "not" / "there" / "yet", seen)
    assert path.name == f"frame_{STAMP_NS // 10**9}_{STAMP_NS % 10**9:09d}"
    assert {entry.name for entry in path.iterdir()} == CONTENT
    (frame,) = read_frames(open_rgbd_bag(path / "recording"))
    assert (frame.stamp_ns, frame.frame_id) == (seen.frame.stamp_ns, seen.frame.frame_id)
    assert frame.depth_encoding == encoding
    np.testing.assert_array_equal(frame.rgb, seen.frame.rgb)
    np.testing.assert_allclose(frame.depth_m, seen.frame.depth_m, atol=step_m / 2)
    labels = cv2.imread(str(path / "label_image.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(labels, label_image(seen.instances.masks))
    overlay = cv2.imread(str(path / "overlay.png"))[..., ::-1]
    np.testing.assert_array_equal(overlay, draw_perception(seen))


def test_the_result_is_told_in_numbers_and_what_is_unknown_is_null(tmp_path):
    first = known_geometry(1)
    second = ObjectGeometry(status=GeometryStatus.TOO_FEW_POINTS)
    path = save(tmp_path, perception(geometry=[first, second]))
    result = json.loads((path / "result.json").read_text())
    assert result["model_id"] == "stub-57ab57ab"
    assert result["parameters"] == DEFAULTS
    assert (result["stamp_ns"], result["size"]) == (STAMP_NS, [24, 32])
    near, far = result["instances"]
    assert [near["instance_id"], far["instance_id"]] == [1, 2]
    assert [near["track_id"], far["track_id"]] == [7, 9]
    assert [near["score"], far["score"]] == [0.75, 0.5]
    assert near["centroid_m"] == pytest.approx(first.centroid.tolist())
    assert far["centroid_m"] == [None] * 3
    assert [near["geometry_status"], far["geometry_status"]] == ["OK", "TOO_FEW_POINTS"]
    x, y, width, height = near["roi_xywh"]
    rows, columns = np.nonzero(discs(SIZE, 2)[0])
    assert (x, y) == (columns.min(), rows.min())
    assert (x + width, y + height) == (columns.max() + 1, rows.max() + 1)


def test_a_frame_without_objects_or_depth_can_be_saved(tmp_path):
    nothing = make_perception(
        np.zeros((0, *SIZE), bool),
        has_depth=False,
        frame={"depth_m": np.full(SIZE, np.nan, np.float32), "depth_encoding": "32FC1"},
    )
    path = save(tmp_path, nothing)
    assert json.loads((path / "result.json").read_text())["instances"] == []
    (frame,) = read_frames(open_rgbd_bag(path / "recording"))
    assert np.isnan(frame.depth_m).all()


def test_a_frame_that_is_saved_again_gets_a_folder_of_its_own(tmp_path):
    seen = perception()
    first, second, third = (save(tmp_path, seen) for _ in range(3))
    assert [second.name, third.name] == [f"{first.name}_2", f"{first.name}_3"]
    assert set(tmp_path.iterdir()) == {first, second, third}


def test_a_folder_that_cannot_be_written_is_an_error_that_leaves_nothing(tmp_path):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a folder")
    with pytest.raises(OSError, match="file"):
        save(in_the_way, perception())
    assert list(tmp_path.iterdir()) == [in_the_way]
