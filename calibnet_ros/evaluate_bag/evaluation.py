"""One recording in, one folder out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from calibnet_core.data.bags import RgbdBag
from calibnet_core.evaluation import EvaluationError
from calibnet_core.evaluation.recording import (
    RecordingEvaluation,
    RecordingEvaluator,
    RecordingSettings,
    RecordingTruth,
)
from calibnet_core.evaluation.recording.document import RecordingFacts, recording_document
from calibnet_core.evaluation.recording.html import recording_html
from calibnet_core.evaluation.recording.markdown import recording_markdown
from calibnet_core.files import atomic_folder
from calibnet_core.processor import Predictor
from calibnet_core.structures import ModelInfo
from calibnet_core.visualization import draw_perception
from calibnet_ros.evaluate_bag.inputs import Topics, open_recording
from calibnet_ros.evaluate_bag.replay import OfflineAnswer, Replay
from calibnet_ros.evaluate_bag.result_bag import ResultBag, can_record
from calibnet_ros.evaluate_bag.timings import Stopwatch
from calibnet_ros.messages import LATCHED_OUTPUTS
from calibnet_ros.parameter_schema import Values

_PATHS = ("model.weights", "model.config", "output.save_folder")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One recording to evaluate; plain values, so that it travels to other processes.

    Attributes:
        bag: the recording.
        output: folder to create.
        topics: where to look.
        values: parameters of the node by name.
        truth: COCO file of labels, if there is one.
        with_result_bag: also record every output.
        with_overlays: also save an overlay of every frame.
    """

    bag: Path
    output: Path
    values: Values
    topics: Topics = field(default_factory=Topics)
    truth: Path | None = None
    with_result_bag: bool = False
    with_overlays: bool = False


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a job.

    Attributes:
        name: of the recording.
        folder: name of the folder that was written; empty where none was.
        document: the figures without the rows of single frames; empty likewise.
        error: why there are no figures, or what they lack; empty where all went well.
    """

    name: str
    folder: str = ""
    document: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""


def evaluate_bag(job: Job, predictor: Predictor) -> Outcome:
    """Evaluate a recording; its folder appears complete or not at all.

    Raises:
        BagError: it cannot be opened.
        EvaluationError: the labels do not fit it.
        OSError: the folder cannot be written; `FileExistsError` where it exists.
    """
    bag = open_recording(job.bag, job.topics)
    truth = None if job.truth is None else RecordingTruth.read(job.truth)
    with atomic_folder(job.output) as folder:
        folder.mkdir()
        stopwatch = Stopwatch(predictor.model_info)
        replay = Replay(bag, predictor, job.values, on_color=_teller(truth))
        evaluator = RecordingEvaluator(_settings(job.values, bag), truth)
        with ExitStack() as stack:
            results = None
            if job.with_result_bag:
                results = stack.enter_context(ResultBag(folder / "results"))
            if job.with_overlays:
                (folder / "overlays").mkdir()
            for answer in stopwatch.timed(replay.answers()):
                evaluator.update(answer.perception, offset_ns=answer.account.depth_offset_ns)
                if results is not None:
                    _record(results, answer, predictor)
                if job.with_overlays:
                    _save_overlay(folder / "overlays", answer)
        evaluation = evaluator.compute()
        if evaluation.truth is not None and evaluation.truth.num_matched == 0:
            raise EvaluationError(
                f"{evaluation.truth.name}: none of its images is an answered frame of {bag.name}; "
                "name them '<seconds>_<nanoseconds, 9 digits>' after the colour stamps, or list "
                "them in the order of the colour images"
            )
        document = recording_document(evaluation, _facts(bag, replay, predictor, job.values))
        _write_report(folder, evaluation, document)
        _write_json(folder / "timings.json", stopwatch.document())
    kept = {name: value for name, value in document.items() if name != "rows"}
    return Outcome(name=bag.name, folder=job.output.name, document=kept, error=replay.damage)


def blank_document() -> dict[str, Any]:
    """The document of a recording without a frame: its names are those of every document."""
    from calibnet_core.perception.accounting import FrameLedger

    counts = FrameLedger().snapshot(waiting_color=0, in_flight=0, waiting_depth=0)
    facts = RecordingFacts(name="", duration_s=0.0, topics={}, num_infos=0, counts=counts)
    evaluation = RecordingEvaluator(RecordingSettings()).compute()
    return recording_document(evaluation, facts)


def _teller(truth: RecordingTruth | None) -> Any:
    return (lambda stamp_ns: None) if truth is None else truth.note_color


def _settings(values: Values, bag: RgbdBag) -> RecordingSettings:
    return RecordingSettings(
        score_threshold=float(values["detection.score_threshold"]),  # type: ignore[arg-type]
        max_gap_s=float(values["tracking.max_gap"]),  # type: ignore[arg-type]
        min_m=float(values["depth.min"]),  # type: ignore[arg-type]
        max_m=float(values["depth.max"]),  # type: ignore[arg-type]
        is_tracked=bool(values["tracking.enable"]),
        num_expected=bag.num_color_images,
    )


def _facts(bag: RgbdBag, replay: Replay, predictor: Predictor, values: Values) -> RecordingFacts:
    return RecordingFacts(
        name=bag.name,
        duration_s=bag.duration_ns / 1e9,
        topics={"color": bag.color_topic, "depth": bag.depth_topic, "info": bag.info_topic},
        num_infos=replay.num_infos,
        counts=replay.counts(),
        notes=replay.notes,
        damage=replay.damage,
        model=_model(predictor.model_info),
        parameters={
            name: Path(str(value)).name if name in _PATHS else value
            for name, value in sorted(values.items())
        },
    )


def _model(info: ModelInfo) -> dict[str, str]:
    return {
        "model_id": info.model_id,
        "name": info.name,
        "weights_sha256": info.weights_sha256,
        "device": info.device,
        "precision": info.precision,
        "calibration_set": info.calibration_set,
    }


def _record(results: ResultBag, answer: OfflineAnswer, predictor: Predictor) -> None:
    if answer.account.sequence == 1:
        for output in LATCHED_OUTPUTS:
            message = output.make(predictor.model_info, predictor.config)
            if can_record(message):
                results.write(output.name, message, answer.log_ns, is_latched=True)
    for name, message in answer.messages():
        if can_record(message):
            results.write(name, message, answer.log_ns)


def _save_overlay(folder: Path, answer: OfflineAnswer) -> None:
    seconds, nanoseconds = divmod(answer.perception.frame.stamp_ns, 1_000_000_000)
    # The number tells frames of a looping recording apart.
    name = f"{answer.account.sequence:06d}_{seconds}_{nanoseconds:09d}.jpg"
    Image.fromarray(draw_perception(answer.perception)).save(folder / name, quality=90)


def _write_report(
    folder: Path, evaluation: RecordingEvaluation, document: Mapping[str, Any]
) -> None:
    _write_json(folder / "report.json", document)
    for name, text in (
        ("report.md", recording_markdown(document)),
        ("report.html", recording_html(evaluation, document)),
    ):
        # Newlines as they are: the page's policy names the hash of its style.
        (folder / name).write_text(text, encoding="utf-8", newline="")


def _write_json(path: Path, content: Any) -> None:
    # NaN is no JSON; what is undefined is null by now.
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8", newline="")
