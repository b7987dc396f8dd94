"""Save weights, and load them without executing anything the file says."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from calibnet_core._version import __version__
from calibnet_core.config import MODELS, ConfigError, PipelineConfig, build_section
from calibnet_core.files import atomic_write
from calibnet_core.models.build import build_model
from calibnet_core.models.calibnet.published_keys import own_key
from calibnet_core.score_calibration import ScoreMap
from calibnet_core.structures import WeightsError

StateDict = Mapping[str, Tensor]

_SETTINGS = ("model", "input", "depth")
"""Sections of a pipeline's settings that belong to the weights; thresholds are the user's."""

_DERIVED = ("num_batches_tracked", "relative_position_index")
"""Endings of entries that a model computes for itself; a file may hold them or not."""


@dataclass(frozen=True)
class LoadReport:
    """What `load_weights` did.

    Attributes:
        format: "own" for this project's names, "published" for those of the published checkpoints.
        loaded: number of entries copied into the model.
        missing: entries of the model that the source leaves out; only derived ones can be here.
        unexpected: entries of the source that the model does not know; always empty, others raise.
    """

    format: Literal["own", "published"]
    loaded: int
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)


def load_weights(model: nn.Module, source: str | Path | StateDict) -> LoadReport:
    """Copy weights into `model`: all of them, or none and an error.

    Args:
        model: a network of `build_model`.
        source: a `.safetensors` file of this project, a checkpoint of the published code (`.pth`,
            with or without optimiser state around it), or a dictionary with the names of either.

    Raises:
        WeightsError: the file is unreadable, holds something other than tensors, or is of another
            model. The message names what is missing, unexpected and misshapen.
    """
    state, label = (
        (read_state_dict(source), str(source))
        if isinstance(source, (str, Path))
        else (source, "weights")
    )
    if foreign := [key for key, value in state.items() if not _is_plain(value)]:
        raise WeightsError(
            f"{label}: {_listed(foreign)} are no dense real tensors; nothing was loaded; save the "
            "weights as ordinary tensors"
        )
    expected = model.state_dict()
    renamed, unexpected, form = _own_names(model, state)
    missing = [key for key in expected if key not in renamed]
    required = [key for key in missing if not key.endswith(_DERIVED)]
    misshapen = [
        f"{key} is {tuple(renamed[key].shape)}, the model has {tuple(expected[key].shape)}"
        for key in renamed
        if key in expected and not _fits(key, renamed[key], expected[key])
    ]
    if unexpected or required or misshapen:
        raise WeightsError(_mismatch(label, state, required, unexpected, misshapen))
    converted = {key: value.to(expected[key].dtype) for key, value in renamed.items()}
    if broken := [key for key, value in converted.items() if not value.isfinite().all()]:
        raise WeightsError(
            f"{label}: {_listed(broken)} hold NaN or infinite numbers; "
            "the training run had diverged"
        )
    with torch.no_grad():
        for key, target in expected.items():
            if key in renamed and not key.endswith("relative_position_index"):
                target.copy_(converted[key])
    return LoadReport(format=form, loaded=len(renamed), missing=missing)


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a weights file, on the CPU.

    `.safetensors` holds nothing but tensors. Every other file goes through torch's restricted
    unpickler, which refuses whatever is not plain data.

    Raises:
        WeightsError: the file is missing, damaged, holds code, or has no state dictionary in it.
    """
    path = _existing_file(path)
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path}: is not a readable weights file ({error}); download or export it again"
        ) from error
    except Exception as error:  # the unpickler raises whatever a damaged stream makes it raise
        # Its own message is left out: it explains how to switch the protection off.
        raise WeightsError(
            f"{path}: cannot be read as plain tensors; it is damaged, or holds objects that would "
            "run code, which are never loaded; download it again, or ask for a .safetensors file"
        ) from error
    return _find_state_dict(path, content)


def read_settings(path: str | Path) -> PipelineConfig | None:
    """How the weights in a file are to be used, as `save_weights` noted it.

    Returns:
        Model, input size and depth picture; None where the file says nothing.

    Raises:
        WeightsError: the file cannot be read, or what it says is unknown to this version.
    """
    metadata = _metadata(path)
    if "settings" in metadata:
        try:
            return build_section(PipelineConfig, json.loads(metadata["settings"]), "")
        except ValueError as error:
            raise WeightsError(
                f"{path}: asks for settings that this version does not know ({error}); update "
                "calibnet_core"
            ) from error
    name = metadata.get("model", "")
    return PipelineConfig(model=MODELS[name]) if name in MODELS else None


def read_score_map(path: str | Path) -> ScoreMap | None:
    """How the scores of these weights are calibrated, or None where they are not.

    Raises:
        WeightsError: the file cannot be read, or its calibration is damaged.
    """
    text = _metadata(path).get("score_map")
    try:
        return None if text is None else ScoreMap.from_json(text)
    except ConfigError as error:
        raise WeightsError(
            f"{path}: its score calibration cannot be used: {error}; make it anew with `calibnet "
            "calibrate`"
        ) from error


def save_calibrated(source: str | Path, target: str | Path, score_map: ScoreMap) -> None:
    """Write the weights of one `.safetensors` file to another, with a calibration of their scores.

    Tensors and all other notes in the file stay as they are. The target is written atomically and
    may be the source.

    Raises:
        WeightsError: the source cannot be read, or a name does not end in `.safetensors`.
        OSError: the target cannot be written.
    """
    for path in (source, target):
        _require_safetensors(path)
    metadata = {**_metadata(source), "score_map": score_map.to_json()}
    content = safetensors.torch.save(read_state_dict(source), metadata)
    with atomic_write(target) as file:
        file.write(content)


def read_model_name(path: str | Path) -> str | None:
    """The model's name that `save_weights` wrote into a file, or None for files of other origin."""
    return _metadata(path).get("model")


def _existing_file(path: str | Path) -> Path:
    path = Path(path)
    if path.is_dir():
        raise WeightsError(f"{path}: is a folder; give the path of a .safetensors or .pth file")
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; give the path of a .safetensors or .pth file")
    return path


def _metadata(path: str | Path) -> dict[str, str]:
    path = _existing_file(path)
    if path.suffix != ".safetensors":
        return {}
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path}: is not a readable weights file ({error}); download or export it again"
        ) from error
    return metadata


def save_weights(
    model: nn.Module, path: str | Path, *, model_name: str, settings: PipelineConfig | None = None
) -> None:
    """Write the weights of `model` to a `.safetensors` file, atomically.

    Args:
        model: the network.
        path: the file to write.
        model_name: what to call the model.
        settings: model, input size and depth picture that the weights were trained for, so that
            the file alone is enough to use them; needed where they are no published ones.

    Raises:
        WeightsError: `path` does not end in `.safetensors`.
        OSError: the file cannot be written.
    """
    _require_safetensors(path)
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    metadata = {"format": "pt", "model": model_name, "calibnet_version": __version__}
    if settings is not None:
        kept = {name: dataclasses.asdict(getattr(settings, name)) for name in _SETTINGS}
        metadata["settings"] = json.dumps(kept)
    with atomic_write(path) as file:
        file.write(safetensors.torch.save(state, metadata))


def _require_safetensors(path: str | Path) -> None:
    if Path(path).suffix != ".safetensors":
        raise WeightsError(f"{path}: weights are saved as .safetensors; choose such a name")


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _own_names(
    model: nn.Module, state: StateDict
) -> tuple[dict[str, Tensor], list[str], Literal["own", "published"]]:
    known = set(model.state_dict())
    if known & state.keys():
        return (
            {key: value for key, value in state.items() if key in known},
            [key for key in state if key not in known],
            "own",
        )
    rules = model.rgb_encoder.backbone.published_keys  # type: ignore[union-attr]
    renamed, unexpected = {}, []
    for key, value in state.items():
        name = own_key(key, rules)  # type: ignore[arg-type]
        if name is None or name not in known:
            unexpected.append(key)
        else:
            renamed[name] = value
    return renamed, unexpected, "published"


def _fits(key: str, value: Tensor, target: Tensor) -> bool:
    if key.endswith("relative_position_index"):  # published as a table, held here as a list
        return value.numel() == target.numel()
    return value.shape == target.shape


def _is_plain(value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and not value.is_meta
        and not value.is_quantized
        and not value.is_complex()
    )


def _find_state_dict(path: Path, content: Any) -> dict[str, Tensor]:
    for candidate in (
        (content.get("model"), content.get("state_dict"), content)
        if isinstance(content, dict)
        else ()
    ):
        if (
            isinstance(candidate, dict)
            and candidate
            and all(isinstance(value, Tensor) for value in candidate.values())
            and all(isinstance(key, str) for key in candidate)
        ):
            return candidate
    raise WeightsError(
        f"{path}: holds no state dictionary; expected tensors by name, or such a dictionary under "
        "'model'"
    )


def _mismatch(
    label: str, state: StateDict, missing: list[str], unexpected: list[str], misshapen: list[str]
) -> str:
    parts = [
        f"{len(entries)} {what}: {_listed(entries)}"
        for what, entries in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("misshapen", misshapen),
        )
        if entries
    ]
    fitting = _models_that_fit(state)
    advice = (
        f"they fit {fitting[0]}: build that model"
        if fitting
        else f"choose the matching one of {sorted(MODELS)}"
    )
    return (
        f"{label}: these weights are of another model, nothing was loaded; "
        + "; ".join(parts)
        + f"; {advice}"
    )


def _models_that_fit(state: StateDict) -> list[str]:
    fitting = []
    for name in MODELS:
        with torch.device("meta"):  # shapes only: no memory, no initialisation
            model = build_model(name)
        expected = model.state_dict()
        renamed, unexpected, _ = _own_names(model, state)
        complete = all(key in renamed or key.endswith(_DERIVED) for key in expected)
        if (
            complete
            and not unexpected
            and all(_fits(key, renamed[key], expected[key]) for key in renamed)
        ):
            fitting.append(name)
    return fitting


def _listed(entries: list[str], limit: int = 5) -> str:
    shown = ", ".join(entries[:limit])
    return f"{shown} and {len(entries) - limit} more" if len(entries) > limit else shown
