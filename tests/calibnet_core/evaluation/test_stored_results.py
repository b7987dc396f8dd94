from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibnet_core.data.results import ResultFolder
from calibnet_core.evaluation.errors import EvaluationError
from calibnet_core.evaluation.stored_results import StoredResults
from tests.calibnet_core.evaluation.coco_sets import rle
from tests.calibnet_core.evaluation.stand_ins import SIZE, Oracle, random_dataset, sample

MASK = np.zeros(SIZE, bool)
MASK[3:9, 4:20] = True


def entry(**changes: Any) -> dict[str, Any]:
    return {"image_id": 3, "category_id": 1, "score": 0.5, "segmentation": rle(MASK)} | changes


def test_what_calibnet_predict_writes_is_read_back(tmp_path: Path) -> None:
    dataset = random_dataset(6)
    folder = ResultFolder(tmp_path)
    for item in dataset.samples:
        folder.add(item.frame, Oracle(dataset)(item.frame), image_id=item.image_id)
    folder.finish()
    stored = StoredResults.read(tmp_path / "results.json", image_ids=dataset.image_ids)
    for item in dataset.samples:
        predicted = Oracle(dataset)(item.frame)
        order = np.argsort(-predicted.scores, kind="stable")
        instances = stored.instances_of(item)
        np.testing.assert_array_equal(instances.masks, predicted.masks[order])
        np.testing.assert_array_equal(instances.scores, predicted.scores[order])


def test_an_image_without_results_has_no_instances() -> None:
    stored = StoredResults([entry()], image_ids=[3, 4])
    assert len(stored.instances_of(sample(4, MASK[np.newaxis]))) == 0
    assert len(stored.instances_of(sample(3, MASK[np.newaxis]))) == 1


@pytest.mark.parametrize(
    ("results", "words"),
    [
        ({}, "results: holds dict; expected a list"),
        ([entry(), 7], "results: entry 1 lacks"),
        ([{"image_id": 3, "score": 0.5}], "entry 0 lacks 'image_id', 'score' or 'segmentation'"),
        ([entry(image_id=9)], "entry 0 belongs to image 9, which the data set does not have"),
        ([entry(image_id=[3])], r"entry 0 belongs to image \[3\]"),
        ([entry(score=1.25)], "entry 0 has score 1.25"),
        ([entry(score=None)], "entry 0 has score None"),
        ([entry(score=float("nan"))], "entry 0 has score nan"),
    ],
)
def test_a_bad_entry_is_named_before_anything_is_evaluated(results: Any, words: str) -> None:
    with pytest.raises(EvaluationError, match=words):
        StoredResults(results, image_ids=[3])


def test_a_mask_of_another_size_is_named_when_its_image_comes() -> None:
    stored = StoredResults([entry(segmentation=rle(np.ones((4, 4), bool)))], image_ids=[3])
    with pytest.raises(EvaluationError, match=r"results: entry 0: .*size \[4, 4\]"):
        stored.instances_of(sample(3, MASK[np.newaxis]))


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"none.json: cannot be read \(No such file"):
        StoredResults.read(tmp_path / "none.json", image_ids=[])
    (tmp_path / "cut.json").write_text(json.dumps([entry()])[:50])
    with pytest.raises(EvaluationError, match=r"cut.json: is no readable JSON file"):
        StoredResults.read(tmp_path / "cut.json", image_ids=[3])
