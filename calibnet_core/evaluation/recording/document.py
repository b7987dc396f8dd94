"""The figures of a recording as one JSON document, the same on every run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from calibnet_core import __version__
from calibnet_core.evaluation.recording.evaluator import (
    FrameRow,
    RecordingEvaluation,
    TruthFigures,
)
from calibnet_core.perception.accounting import DropReason, LedgerSnapshot

_DIGITS = 6
"""Decimals kept: more would tell machines apart, not answers."""


@dataclass(frozen=True, kw_only=True)
class RecordingFacts:
    """What was evaluated, and what became of its messages.

    Attributes:
        name: of the recording, without its folder.
        duration_s: from its first message to its last, in seconds.
        topics: by role: `color`, `depth`, `info`; None where there is none.
        num_infos: CameraInfo messages.
        counts: the ledger when the recording ended.
        notes: a sentence for each kind of fault, the first of its kind.
        damage: why reading ended early; empty where the recording is whole.
        model: who answered, by name.
        parameters: settings by name, without paths.
    """

    name: str
    duration_s: float
    topics: Mapping[str, str | None]
    num_infos: int
    counts: LedgerSnapshot
    notes: Sequence[str] = ()
    damage: str = ""
    model: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)


def recording_document(evaluation: RecordingEvaluation, facts: RecordingFacts) -> dict[str, Any]:
    """Everything but the pictures, as plain values that JSON can hold; undefined is None.

    Shares, precision and scores are fractions. Floats are rounded to 6 decimals. There is no time
    of the run and no path in it.
    """
    counts = facts.counts
    document: dict[str, Any] = {
        "format": "calibnet recording 1",
        "package_version": __version__,
        "recording": {
            "name": facts.name,
            "duration_s": facts.duration_s,
            "topics": dict(facts.topics),
            "is_whole": not facts.damage,
            "damage": facts.damage,
        },
        "model": dict(facts.model),
        "parameters": dict(facts.parameters),
        "messages": {
            "color": counts.received_color,
            "depth": counts.received_depth,
            "info": facts.num_infos,
        },
        "frames": len(evaluation.rows),
        "pairs": counts.paired,
        "pairs_without_depth": counts.paired_without_depth,
        "waiting": {"color": counts.waiting_color, "depth": counts.waiting_depth},
        "backward_jumps": counts.backward_jumps,
        "drops": _drops(counts.dropped_color, counts.dropped_pairs),
        "drops_of_depth": _drops(counts.dropped_depth),
        "notes": list(facts.notes),
        "offset_ms": _offsets(evaluation),
        "instances": _instances(evaluation),
        "depth": {
            **_summary([row.depth_valid for row in evaluation.rows], "valid"),
            "object_valid_mean": evaluation.object_depth_valid,
        },
        "geometry": {status.name.lower(): n for status, n in evaluation.geometry.items()},
        "tracks": _tracks(evaluation),
        **_truth(evaluation.truth),
        "rows": [_row(row) for row in evaluation.rows],
    }
    rounded: dict[str, Any] = _plain(document)
    return rounded


def _drops(*counts: Mapping[DropReason, int]) -> dict[str, int]:
    """Every reason has its place, so that a limit can name it before it happens."""
    return {r.value: sum(count.get(r, 0) for count in counts) for r in DropReason}


def _offsets(evaluation: RecordingEvaluation) -> dict[str, float]:
    offsets = [row.offset_ms for row in evaluation.rows if math.isfinite(row.offset_ms)]
    if not offsets:
        return {"median": math.nan, "max": math.nan}
    return {
        "median": float(np.median(offsets)),
        "max": max(abs(offset) for offset in offsets),
    }


def _instances(evaluation: RecordingEvaluation) -> dict[str, float]:
    counts = [row.num_instances for row in evaluation.rows]
    return {
        "total": sum(counts),
        "mean": float(np.mean(counts)) if counts else math.nan,
        "max": max(counts, default=0),
        "empty_frames": counts.count(0),
    }


def _summary(values: Sequence[float], name: str) -> dict[str, float]:
    known = [value for value in values if math.isfinite(value)]
    return {
        f"{name}_mean": float(np.mean(known)) if known else math.nan,
        f"{name}_min": min(known, default=math.nan),
    }


def _tracks(evaluation: RecordingEvaluation) -> dict[str, Any]:
    stability, truth = evaluation.stability, evaluation.truth
    is_tracked = stability is not None
    return {
        "count": stability.num_tracks if stability is not None else None,
        "returns": stability.num_returns if stability is not None else None,
        "flicker_rate": stability.flicker_rate if stability is not None else None,
        "mask_iou_mean": stability.mask_iou_mean if stability is not None else None,
        "mask_iou_low": stability.mask_iou_low if stability is not None else None,
        "id_switches": truth.num_id_switches if truth is not None and is_tracked else None,
    }


def _truth(truth: TruthFigures | None) -> dict[str, Any]:
    """Figures beside the truth; all of them None without one."""
    if truth is None:
        names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "mae", "max_f")
        return {"truth": None, **dict.fromkeys((*names, "calibration_error"))}
    evaluation, ap = truth.evaluation, truth.evaluation.mask_ap
    per_image = evaluation.overlap.per_image
    return {
        "truth": {
            "name": truth.name,
            "images": truth.num_images,
            "matched": truth.num_matched,
            "objects": evaluation.overlap.num_objects,
            "overlap_f": per_image.overlap_f / 100.0,
            "boundary_f": per_image.boundary_f / 100.0,
            "found": per_image.found_above_75 / 100.0,
        },
        "ap": ap["AP"] / 100.0,
        "ap50": ap["AP50"] / 100.0,
        "ap75": ap["AP75"] / 100.0,
        "ap_small": ap["APs"] / 100.0,
        "ap_medium": ap["APm"] / 100.0,
        "ap_large": ap["APl"] / 100.0,
        "mae": truth.saliency.mae,
        "max_f": truth.saliency.max_f,
        "calibration_error": evaluation.calibration.expected_error / 100.0,
    }


def _row(row: FrameRow) -> dict[str, Any]:
    seconds, nanoseconds = divmod(row.stamp_ns, 1_000_000_000)
    return {
        "stamp": f"{seconds}.{nanoseconds:09d}",
        "offset_ms": row.offset_ms,
        "instances": row.num_instances,
        "located": row.num_located,
        "track_ids": list(row.track_ids),
        "depth_valid": row.depth_valid,
        "mask_iou": row.mask_iou,
        "returns": row.num_returns,
        "status": row.status,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        # Adding 0 turns -0.0, which differs in text alone, into 0.0.
        return round(value, _DIGITS) + 0.0 if math.isfinite(value) else None
    return value
