from __future__ import annotations

import dataclasses
import gc
import json
import math
import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibnet_core.evaluation import evaluate_instances
from calibnet_core.evaluation.coco_masks import decode_masks, to_rle
from calibnet_core.evaluation.errors import EvaluationError
from calibnet_core.evaluation.evaluator import (
    Evaluation,
    EvaluationSettings,
    InstanceEvaluator,
    evaluate_dataset,
)
from calibnet_core.evaluation.image_outcomes import max_outcome_bytes
from calibnet_core.evaluation.object_overlap import ObjectOverlap
from calibnet_core.evaluation.stored_results import StoredResults
from calibnet_core.structures import Instances, NonFiniteOutputError
from tests.calibnet_core.evaluation.coco_sets import reference, rle
from tests.calibnet_core.evaluation.stand_ins import (
    SIZE,
    MemoryDataset,
    Oracle,
    random_dataset,
    sample,
)
from tests.support.shared import shared_file

NO_PICTURES = EvaluationSettings(gallery_size=0)


def as_coco(dataset: MemoryDataset, predictor: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The same set and predictions as COCO dictionaries."""
    truth: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 1}]}
    results = []
    for item in dataset.samples:
        height, width = item.frame.size
        truth["images"].append({"id": item.image_id, "height": height, "width": width})
        for mask, crowd in zip(item.masks, item.is_crowd, strict=True):
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": item.image_id,
                    "category_id": 1,
                    "segmentation": rle(mask),
                    "iscrowd": int(crowd),
                    "area": int(mask.sum()),
                }
            )
        found = predictor(item.frame)
        results += [
            {
                "image_id": item.image_id,
                "category_id": 1,
                "segmentation": rle(mask),
                "score": float(score),
            }
            for mask, score in zip(found.masks, found.scores, strict=True)
        ]
    return truth, results


def comparable(evaluation: Evaluation) -> str:
    """Everything in it, as text in which NaN equals NaN."""
    fields = {f.name: getattr(evaluation, f.name) for f in dataclasses.fields(evaluation)}
    fields["curves"] = (
        evaluation.curves.precision.tobytes(),
        evaluation.curves.recall.tobytes(),
    )
    return repr(fields)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32))
def test_the_stream_has_the_bits_of_pycocotools_over_the_whole_set(seed: int) -> None:
    dataset = random_dataset(seed)
    predictor = Oracle(dataset)
    evaluation = evaluate_dataset(dataset, predictor, settings=NO_PICTURES)
    truth, results = as_coco(dataset, predictor)
    expected = reference(truth, results).eval
    np.testing.assert_array_equal(evaluation.curves.precision, expected["precision"])
    np.testing.assert_array_equal(evaluation.curves.recall, expected["recall"])
    np.testing.assert_equal(evaluation.mask_ap, evaluate_instances(truth, results))


def test_the_stream_reproduces_the_published_evaluator() -> None:
    case = json.loads(shared_file("parity/calibnet_coco_eval_case1.json").read_text())
    samples = []
    for image in case["gt"]["images"]:
        size = (image["height"], image["width"])
        objects = [a for a in case["gt"]["annotations"] if a["image_id"] == image["id"]]
        masks = decode_masks([to_rle(a["segmentation"], size, "") for a in objects], size)
        samples.append(sample(image["id"], masks, is_crowd=[bool(a["iscrowd"]) for a in objects]))
    dataset = MemoryDataset(samples)
    stored = StoredResults(case["results"], image_ids=dataset.image_ids)
    figures = evaluate_dataset(dataset, stored, settings=NO_PICTURES).mask_ap
    expected = case["expected"]
    for name, value in (expected["official_evaluator"] | {"AR100": expected["AR100"]}).items():
        assert figures[name] == pytest.approx(value, abs=1e-6, nan_ok=True), name
    for level, value in expected["per_iou"].items():
        assert figures[f"AP{level[2:]}"] == pytest.approx(value, abs=1e-6)


def test_everything_is_the_same_for_any_number_of_workers() -> None:
    dataset = random_dataset(5, num_images=9)
    dataset.broken = {4: "drawer.png: is damaged"}
    evaluations = [
        evaluate_dataset(dataset, Oracle(dataset), num_workers=workers) for workers in (0, 1, 3)
    ]
    assert len(evaluations[0].rows) == 8
    assert evaluations[0].worst
    assert len({comparable(evaluation) for evaluation in evaluations}) == 1


def test_the_bytes_kept_of_an_image_depend_on_its_detections_alone() -> None:
    kept = []
    for side in (20, 640):
        evaluator = InstanceEvaluator(NO_PICTURES)
        item = sample(1, np.random.default_rng(0).random((2, side, side)) < 0.5)
        evaluator.update(item, Instances.from_masks(item.masks, np.ones(2, np.float32)))
        kept.append(evaluator.nbytes)
    # 8 bytes of score and 80 bits of flags for a detection, 4 counts.
    assert kept == [2 * 18 + 16] * 2


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32))
def test_the_bytes_kept_are_bounded_by_the_images_and_the_gallery(seed: int) -> None:
    dataset = random_dataset(seed)
    evaluator = InstanceEvaluator(NO_PICTURES)
    for number, item in enumerate(dataset.samples, start=1):
        evaluator.update(item, Oracle(dataset)(item.frame))
        assert evaluator.nbytes <= number * max_outcome_bytes()


def test_pictures_do_not_add_up() -> None:
    dataset = random_dataset(2, num_images=12)
    evaluator = InstanceEvaluator(EvaluationSettings(gallery_size=2))
    sizes = []
    for item in dataset.samples:
        evaluator.update(item, Oracle(dataset)(item.frame))
        pictures = evaluator.nbytes - sum(o.nbytes for o in evaluator._outcomes)
        sizes.append(pictures)
    assert max(sizes) < 2 * 2 * 2 * 8000
    assert len(evaluator.compute().worst) == len(evaluator.compute().best) == 2


def test_no_mask_and_no_image_stays_alive() -> None:
    evaluator = InstanceEvaluator()
    item = sample(1, np.ones((1, *SIZE), bool))
    instances = Instances.from_masks(item.masks.copy(), np.ones(1, np.float32))
    watched = [weakref.ref(a) for a in (item.masks, item.frame.rgb, instances.masks)]
    evaluator.update(item, instances)
    del item, instances
    gc.collect()
    assert [reference() for reference in watched] == [None] * 3


def test_an_image_that_cannot_be_read_is_named_and_left_out() -> None:
    dataset = random_dataset(1)
    reasons: list[Any] = []
    dataset.broken = {2: "imgs/drawer.png: is damaged or cut off"}
    evaluation = evaluate_dataset(dataset, Oracle(dataset), on_image=reasons.append)
    (failure,) = evaluation.failures
    assert (failure.image_id, failure.reason) == (dataset.image_ids[2], dataset.broken[2])
    assert dataset.image_ids[2] not in {row.image_id for row in evaluation.rows}
    assert [reason for reason in reasons if reason is not None] == [failure]
    assert len(reasons) == len(dataset)


@pytest.mark.parametrize("error", [None, NonFiniteOutputError("the network produced NaN")])
def test_an_image_on_which_the_prediction_fails_counts_as_one_without_instances(error) -> None:
    objects = np.zeros((1, *SIZE), bool)
    objects[:, 5:25, 5:25] = True
    dataset = MemoryDataset([sample(1, objects), sample(2, objects)])

    def predictor(frame):
        if frame.name == "drawer_2" and error is not None:
            raise error
        return Instances.from_masks(objects, np.ones(1, np.float32))

    failing = predictor if error is not None else Oracle(dataset, fails_on=2)
    evaluation = evaluate_dataset(dataset, failing)
    (failure,) = evaluation.failures
    assert failure.image_id == 2
    assert "drawer_2.png: " in failure.reason
    assert evaluation.rows[1].num_instances == 0
    assert evaluation.overlap.num_objects == 2
    if error is not None:
        assert evaluation.mask_ap["AR100"] == pytest.approx(50.0)


def test_overlap_uses_instances_above_the_threshold_and_calibration_all() -> None:
    objects = np.zeros((2, *SIZE), bool)
    objects[0, 5:25, 5:25] = objects[1, 30:50, 5:25] = True
    found = Instances.from_masks(objects[[1, 0, 0]], np.array([0.5, 0.75, 0.25], np.float32))
    evaluation = evaluate_dataset(MemoryDataset([sample(1, objects)]), lambda frame: found)
    (row,) = evaluation.rows
    assert (row.num_objects, row.num_instances, row.num_found) == (2, 1, 1)
    assert row.overlap_f == pytest.approx(100 * 2 / 3)
    assert row.top_score == 0.75
    # 0.75 and 0.5 are right; 0.25 finds again what 0.75 found.
    table = [(b.low, b.count, b.share_right) for b in evaluation.calibration.bins if b.count]
    assert table == [(0.2, 1, 0.0), (0.5, 1, 1.0), (0.7, 1, 1.0)]
    assert evaluation.calibration.expected_error == pytest.approx(100 * (0.25 + 0.5 + 0.25) / 3)


def test_a_crowd_is_no_object_and_forgives_what_lies_in_it() -> None:
    masks = np.zeros((2, *SIZE), bool)
    masks[0, 5:25, 5:25] = masks[1, 30:50] = True
    found = Instances.from_masks(masks & (np.arange(80) < 40), np.array([0.9, 0.8], np.float32))
    item = sample(1, masks, is_crowd=[False, True])
    evaluation = evaluate_dataset(MemoryDataset([item]), lambda frame: found)
    assert evaluation.mask_ap["AP"] == pytest.approx(100.0)
    assert evaluation.overlap.per_image.overlap_f == 100.0
    assert evaluation.rows[0].num_objects == 1
    assert evaluation.calibration.num_detections == 1


def test_overlap_figures_are_those_of_the_class_for_it() -> None:
    dataset = random_dataset(8)
    predictor = Oracle(dataset)
    evaluation = evaluate_dataset(dataset, predictor)
    overlap = ObjectOverlap()
    for item in dataset.samples:
        found = predictor(item.frame)
        order = [i for i in np.argsort(-found.scores, kind="stable") if found.scores[i] > 0.5]
        crowd = item.masks[item.is_crowd].any(axis=0)
        overlap.update(item.masks[~item.is_crowd], found.masks[order], is_outside=crowd)
    assert evaluation.overlap == overlap.compute()


def test_only_the_first_images_are_evaluated_on_request() -> None:
    dataset = random_dataset(3)
    evaluation = evaluate_dataset(dataset, Oracle(dataset), limit=3)
    assert [row.image_id for row in evaluation.rows] == list(dataset.image_ids[:3])


def test_a_set_of_which_nothing_could_be_read_has_no_figures() -> None:
    dataset = random_dataset(3, num_images=1)
    dataset.broken = {0: "gone"}
    evaluation = evaluate_dataset(dataset, Oracle(dataset))
    assert math.isnan(evaluation.mask_ap["AP"])
    assert math.isnan(evaluation.overlap.per_image.overlap_f)
    assert math.isnan(evaluation.calibration.expected_error)


def test_reset_starts_anew() -> None:
    dataset = random_dataset(4)
    evaluator = InstanceEvaluator()
    for _ in range(2):
        evaluator.reset()
        for item in dataset.samples:
            evaluator.update(item, Oracle(dataset)(item.frame))
    evaluation = evaluate_dataset(dataset, Oracle(dataset))
    assert comparable(evaluator.compute()) == comparable(evaluation)


@pytest.mark.parametrize(
    ("size", "score", "words"),
    [
        ((4, 4), 0.5, r"image 3 \(drawer_3.png\): predicted masks have size \(4, 4\)"),
        (SIZE, math.nan, r"image 3 \(drawer_3.png\): scores \[nan\] are not all numbers"),
        (SIZE, 1.5, r"scores \[1.5\] are not all numbers from 0 to 1"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(size, score: float, words: str) -> None:
    item = sample(3, np.zeros((0, *SIZE), bool))
    found = Instances.from_masks(np.ones((1, *size), bool), np.array([score], np.float32))
    with pytest.raises(EvaluationError, match=words):
        InstanceEvaluator().update(item, found)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"score_threshold": 2}, "the score threshold is 2"),
        ({"gallery_size": -1}, "the gallery size is -1"),
        ({"boundary_tolerance": 1}, "the boundary tolerance is 1"),
        ({"num_bins": 0}, "0 bins of scores"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(EvaluationError, match=words):
        EvaluationSettings(**settings)
