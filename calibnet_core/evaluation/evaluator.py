"""Evaluation of a data set that streams by: every image leaves some bytes, none leaves masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from calibnet_core.evaluation.calibration import Calibration, ScoreCalibration
from calibnet_core.evaluation.coco_masks import encode_masks
from calibnet_core.evaluation.errors import EvaluationError
from calibnet_core.evaluation.gallery import Gallery, PicturePair, draw_pair
from calibnet_core.evaluation.image_outcomes import ImageOutcome, match_image
from calibnet_core.evaluation.loading import Failure, Sample, SampleSource, load_samples
from calibnet_core.evaluation.object_overlap import (
    BOUNDARY_TOLERANCE,
    ImageOverlap,
    ObjectOverlap,
    OverlapFigures,
)
from calibnet_core.evaluation.precision_recall import PrecisionRecall, combine, mask_ap_figures
from calibnet_core.evaluation.stored_results import StoredResults
from calibnet_core.structures import FrameError, Instances, RgbdFrame

Predictor = Callable[[RgbdFrame], Instances]


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """What the figures depend on besides data and predictions."""

    score_threshold: float = 0.5
    """Overlap, boundaries and pictures use instances that score above this, in [0, 1]; average
    precision and calibration use all.
    """
    boundary_tolerance: float = BOUNDARY_TOLERANCE
    """Distance at which boundaries still agree, as a share of the image diagonal."""
    num_bins: int = 10
    """Bins of the reliability table."""
    gallery_size: int = 8
    """Worst images, and best ones, of which pictures are kept; 0 to 100."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.score_threshold <= 1.0:
            raise EvaluationError(
                f"the score threshold is {self.score_threshold}; choose a value from 0 to 1"
            )
        if not 0 <= self.gallery_size <= 100:
            raise EvaluationError(
                f"the gallery size is {self.gallery_size}; choose a number from 0 to 100"
            )
        # These know their own limits.
        ObjectOverlap(boundary_tolerance=self.boundary_tolerance)
        ScoreCalibration(num_bins=self.num_bins)


@dataclass(frozen=True, kw_only=True)
class ImageRow:
    """The figures of one image.

    Attributes:
        image_id, file_name, scene: of the image.
        num_objects: objects annotated, crowds apart.
        num_instances: instances above the score threshold.
        num_found: objects that overlap with F above 75 %.
        overlap_f, boundary_f: in per cent.
        top_score: the best score of all instances in [0, 1], NaN without one.
    """

    image_id: int
    file_name: str
    scene: str
    num_objects: int
    num_instances: int
    num_found: int
    overlap_f: float
    boundary_f: float
    top_score: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """All figures of a data set.

    Attributes:
        mask_ap: average precision and recall in per cent, see `precision_recall.mask_ap_figures`.
        curves: precision over recall.
        overlap: overlap and boundary figures of the instances above the score threshold.
        calibration: of all instances' scores; right is what is matched at an overlap (IoU) of 0.5.
        rows: one for each image, in the order of the data set.
        worst, best: pictures by image number, the worst first and the best first.
        failures: images that could not be read, and those on which the prediction failed.
    """

    mask_ap: dict[str, float]
    curves: PrecisionRecall
    overlap: OverlapFigures
    calibration: Calibration
    rows: tuple[ImageRow, ...]
    worst: dict[int, PicturePair]
    best: dict[int, PicturePair]
    failures: tuple[Failure, ...] = field(default=())


class InstanceEvaluator:
    """Collects the figures of a data set image by image.

    All categories of a data set count as one: the network tells no classes apart. Ranges of area
    use the masks' pixels.

    Args:
        settings: defaults if None.
    """

    def __init__(self, settings: EvaluationSettings | None = None) -> None:
        self.settings = settings or EvaluationSettings()
        self._overlap = ObjectOverlap(boundary_tolerance=self.settings.boundary_tolerance)
        self._calibration = ScoreCalibration(num_bins=self.settings.num_bins)
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._overlap.reset()
        self._calibration.reset()
        self._gallery = Gallery(self.settings.gallery_size)
        self._outcomes: list[ImageOutcome] = []
        self._rows: list[ImageRow] = []
        self._failures: list[Failure] = []

    @property
    def nbytes(self) -> int:
        """Bytes of outcomes and pictures; beside them an image leaves one `ImageRow`."""
        return sum(outcome.nbytes for outcome in self._outcomes) + self._gallery.nbytes

    def update(self, sample: Sample, instances: Instances) -> None:
        """Add one image.

        Raises:
            EvaluationError: masks have another size than the image, or scores are no numbers from 0
                to 1.
        """
        _check(sample, instances)
        outcome = match_image(
            sample.image_id,
            objects=encode_masks(sample.masks),
            is_crowd=sample.is_crowd.tolist(),
            detections=encode_masks(instances.masks),
            scores=instances.scores,
        )
        is_matched, is_ignored = outcome.unpacked()[:, 0, 0]
        self._calibration.update(outcome.scores[~is_ignored], is_matched[~is_ignored])
        self._outcomes.append(outcome)

        shown = _best_first(instances, self.settings.score_threshold)
        gt_masks = sample.masks[~sample.is_crowd]
        crowds = np.asarray(sample.masks[sample.is_crowd].any(axis=0))
        image = self._overlap.update(gt_masks, shown.masks, is_outside=crowds)
        self._rows.append(_row(sample, instances, len(shown), image))
        self._gallery.offer(
            sample.image_id,
            (image.overlap.f, image.boundary.f),
            draw=lambda: draw_pair(sample.frame.rgb, gt_masks, shown, pairs=image.pairs),
            # An empty image left empty is perfect and shows nothing.
            can_be_best=image.num_objects > 0,
        )

    def fail(self, failure: Failure) -> None:
        """Note an image that could not be evaluated as it should."""
        self._failures.append(failure)

    def compute(self) -> Evaluation:
        """The figures of all images since the start or the last `reset`."""
        curves = combine([self._outcomes])
        worst, best = self._gallery.worst_and_best()
        return Evaluation(
            mask_ap=mask_ap_figures(curves),
            curves=curves,
            overlap=self._overlap.compute(),
            calibration=self._calibration.compute(),
            rows=tuple(self._rows),
            worst=worst,
            best=best,
            failures=tuple(self._failures),
        )


def evaluate_dataset(
    source: SampleSource,
    predictor: Predictor | StoredResults,
    *,
    settings: EvaluationSettings | None = None,
    num_workers: int = 0,
    limit: int | None = None,
    on_image: Callable[[Failure | None], None] = lambda failure: None,
) -> Evaluation:
    """Evaluate predictions on a data set; the figures do not depend on the number of workers.

    An image that cannot be read is left out of the figures. One on which the prediction fails
    counts as one without instances, for leaving it out would flatter. Both are failures.

    Args:
        source: the data set.
        predictor: what finds instances, normally `Pipeline.predict`, or stored results.
        settings: defaults if None.
        num_workers: processes that read images ahead.
        limit: only that many images from the start.
        on_image: called after each image with what failed on it, if anything.

    Raises:
        EvaluationError: predictions do not fit the images.
    """
    from calibnet_core.structures import NonFiniteOutputError

    evaluator = InstanceEvaluator(settings)
    for item in load_samples(source, num_workers=num_workers, limit=limit):
        failure = item if isinstance(item, Failure) else None
        if not isinstance(item, Failure):
            try:
                instances = _predict(predictor, item)
            except (FrameError, NonFiniteOutputError) as error:
                failure = Failure(image_id=item.image_id, reason=f"{item.file_name}: {error}")
                instances = Instances.empty(item.frame.size)
            evaluator.update(item, instances)
        if failure is not None:
            evaluator.fail(failure)
        on_image(failure)
    return evaluator.compute()


def _predict(predictor: Predictor | StoredResults, sample: Sample) -> Instances:
    if isinstance(predictor, StoredResults):
        return predictor.instances_of(sample)
    return predictor(sample.frame)


def _check(sample: Sample, instances: Instances) -> None:
    where = f"image {sample.image_id} ({sample.file_name})"
    size = sample.frame.size
    for kind, masks in (("annotated", sample.masks), ("predicted", instances.masks)):
        if masks.shape[1:] != size:
            raise EvaluationError(
                f"{where}: {kind} masks have size {masks.shape[1:]} but the image {size} (height, "
                "width); make them at the size of the image"
            )
    scores = instances.scores
    if not ((scores >= 0.0) & (scores <= 1.0)).all():
        raise EvaluationError(f"{where}: scores {scores} are not all numbers from 0 to 1")


def _best_first(instances: Instances, score_threshold: float) -> Instances:
    order = np.argsort(-instances.scores, kind="stable")
    order = order[instances.scores[order] > score_threshold]
    return Instances.from_masks(instances.masks[order], instances.scores[order])


def _row(sample: Sample, instances: Instances, num_instances: int, image: ImageOverlap) -> ImageRow:
    return ImageRow(
        image_id=sample.image_id,
        file_name=sample.file_name,
        scene=sample.scene,
        num_objects=image.num_objects,
        num_instances=num_instances,
        num_found=image.num_found,
        overlap_f=image.overlap.f,
        boundary_f=image.boundary.f,
        top_score=float(instances.scores.max()) if len(instances) else float("nan"),
    )
