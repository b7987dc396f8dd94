"""Predictions that were written before, as a COCO results file, in the place of a network."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from calibnet_core.data.datasets.rle import Rle
from calibnet_core.evaluation.coco_masks import decode_masks, to_rle
from calibnet_core.evaluation.errors import EvaluationError
from calibnet_core.evaluation.loading import Sample
from calibnet_core.structures import Instances


class StoredResults:
    """The results of a file by image. Their masks stay compressed until an image is asked for.

    Categories are of no account: evaluation of a data set is class-agnostic.

    Args:
        results: COCO results with `image_id`, `score` and `segmentation` each.
        image_ids: numbers of the images of the data set.
        name: what to call the results in errors.

    Raises:
        EvaluationError: an entry lacks something, has a score outside 0 to 1, or belongs to no
            image of the data set.
    """

    def __init__(
        self, results: Sequence[Any], *, image_ids: Iterable[int], name: str = "results"
    ) -> None:
        if not isinstance(results, list):
            raise EvaluationError(
                f"{name}: holds {type(results).__name__}; expected a list of COCO results, as "
                "`calibnet predict` writes them"
            )
        known = set(image_ids)
        self._by_image: dict[int, list[tuple[str, float, Any]]] = defaultdict(list)
        for number, result in enumerate(results):
            where = f"{name}: entry {number}"
            if not isinstance(result, dict) or not {"image_id", "score", "segmentation"} <= (
                result.keys()
            ):
                raise EvaluationError(
                    f"{where} lacks 'image_id', 'score' or 'segmentation'; write the file anew"
                )
            image_id, score = result["image_id"], result["score"]
            if not _is_number(image_id) or image_id not in known:
                raise EvaluationError(
                    f"{where} belongs to image {image_id!r}, which the data set does not have; "
                    "evaluate on the set that was predicted"
                )
            if not _is_number(score) or not 0.0 <= score <= 1.0:
                raise EvaluationError(f"{where} has score {score!r}; expected a number from 0 to 1")
            self._by_image[int(image_id)].append((where, float(score), result["segmentation"]))

    @classmethod
    def read(cls, path: str | Path, *, image_ids: Iterable[int]) -> StoredResults:
        """Read a results file.

        Raises:
            EvaluationError: it is missing, no JSON, or an entry is wrong.
        """
        try:
            results = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise EvaluationError(
                f"{path}: cannot be read ({error.strerror}); check the path"
            ) from error
        except (ValueError, RecursionError) as error:
            raise EvaluationError(
                f"{path}: is no readable JSON file ({error}); write it again"
            ) from error
        return cls(results, image_ids=image_ids, name=str(path))

    def instances_of(self, sample: Sample) -> Instances:
        """The stored instances of one image, in the order of the file.

        Raises:
            EvaluationError: a mask is malformed or of another size than the image.
        """
        size = sample.frame.size
        rles: list[Rle] = []
        scores: list[float] = []
        for where, score, segmentation in self._by_image.get(sample.image_id, []):
            rles.append(to_rle(segmentation, size, where))
            scores.append(score)
        return Instances.from_masks(decode_masks(rles, size), np.array(scores, np.float32))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
