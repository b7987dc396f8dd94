"""Which frame an image of the truth file labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibnet_core.evaluation import EvaluationError
from calibnet_core.evaluation.recording import RecordingTruth
from calibnet_core.structures import RgbdFrame

SIZE = (8, 10)
SQUARE = [[1.0, 1.0, 5.0, 1.0, 5.0, 4.0, 1.0, 4.0]]


def write(path: Path, names: list[str], **changes: Any) -> Path:
    images = [
        {"id": k, "file_name": name, "height": SIZE[0], "width": SIZE[1]}
        for k, name in enumerate(names, start=1)
    ]
    annotations = [
        {"id": k, "image_id": k, "category_id": 1, "segmentation": SQUARE, "track_id": 40 + k}
        for k in range(1, len(names) + 1)
    ]
    for entry in (*images, *annotations):
        entry.update({key: value for key, value in changes.items() if key in entry})
    document = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "thing"}],
    }
    path.write_text(json.dumps(document))
    return path


def frame(stamp_ns: int) -> RgbdFrame:
    return RgbdFrame(
        rgb=np.zeros((*SIZE, 3), np.uint8), depth_m=np.ones(SIZE, np.float32), stamp_ns=stamp_ns
    )


def test_names_with_stamps_are_matched_by_stamp(tmp_path: Path) -> None:
    names = ["b/run_17_000000005.png", "3_999999999.jpg"]
    truth = RecordingTruth.read(write(tmp_path / "truth.json", names))
    assert truth.is_by_stamp
    truth.note_color(1)  # of no account here
    labels = truth.labels_of(frame(17_000_000_005))
    assert labels is not None
    assert (labels.image_id, labels.object_ids) == (1, (41,))
    assert labels.masks.shape == (1, *SIZE)
    assert labels.masks.sum() == 4 * 3
    assert truth.labels_of(frame(3_999_999_999)).image_id == 2
    assert truth.labels_of(frame(1)) is None


def test_names_without_stamps_are_matched_in_the_order_of_the_colour_images(tmp_path: Path) -> None:
    truth = RecordingTruth.read(write(tmp_path / "truth.json", ["a.png", "b_12.png"]))
    assert not truth.is_by_stamp
    for stamp_ns in (500, 600, 700, 500):
        truth.note_color(stamp_ns)
    assert truth.labels_of(frame(500)).file_name == "a.png"
    assert truth.labels_of(frame(600)).file_name == "b_12.png"
    assert truth.labels_of(frame(700)) is None


def test_a_stamp_that_comes_again_keeps_its_first_labels(tmp_path: Path) -> None:
    truth = RecordingTruth.read(write(tmp_path / "truth.json", ["a.png", "b.png"]))
    for stamp_ns in (500, 500, 600):
        truth.note_color(stamp_ns)
    assert truth.labels_of(frame(500)).file_name == "a.png"
    assert truth.labels_of(frame(600)) is None  # the third colour image; there are two labels


def test_without_track_ids_objects_have_no_identity(tmp_path: Path) -> None:
    path = write(tmp_path / "truth.json", ["a.png"], track_id=None)
    truth = RecordingTruth.read(path)
    truth.note_color(5)
    assert truth.labels_of(frame(5)).object_ids is None


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    path = tmp_path / "truth.json"
    for names, words in (
        (["1_000000001.png", "a.png"], "'a.png' bears no stamp as other images do"),
        (["1_000000001.png", "x_1_000000001.png"], "bears the stamp of an earlier image"),
        ([], "holds no image"),
    ):
        with pytest.raises(EvaluationError, match=words):
            RecordingTruth.read(write(path, names))
    with pytest.raises(EvaluationError, match="belongs to image 9"):
        RecordingTruth.read(write(path, ["a.png"], image_id=9))
    path.write_text("{")
    with pytest.raises(EvaluationError, match="no readable JSON"):
        RecordingTruth.read(path)
    truth = RecordingTruth.read(write(path, ["1_000000001.png"], height=9))
    with pytest.raises(
        EvaluationError, match=r"declared \(9, 10\) but the recording's is \(8, 10\)"
    ):
        truth.labels_of(frame(1_000_000_001))
