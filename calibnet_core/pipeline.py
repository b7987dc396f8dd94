"""The one way from a frame to its instances; the node, the command line and scripts all call it."""

from __future__ import annotations

import time
import typing
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from calibnet_core.checkpoint import load_weights, read_score_map, read_settings, sha256_of
from calibnet_core.config import (
    ConfigError,
    InferenceConfig,
    ModelConfig,
    PipelineConfig,
    Precision,
    model_name,
    require,
    settings_over,
)
from calibnet_core.models.build import build_model, model_config
from calibnet_core.models.calibnet.model import CalibNet, RawPrediction
from calibnet_core.models.inference_form import inference_form
from calibnet_core.postprocess import select_instances
from calibnet_core.preprocessing import NetworkInput, prepare
from calibnet_core.score_calibration import ScoreMap
from calibnet_core.shipped_weights import default_weights
from calibnet_core.structures import Instances, ModelInfo, RgbdFrame, StageTimings

RANDOM_WEIGHTS_SEED = 0

_HALF_TYPES: dict[Precision, torch.dtype] = {"fp16": torch.float16, "bf16": torch.bfloat16}


class Pipeline:
    """Preprocessing, network and postprocessing. Not safe for concurrent calls.

    Args:
        model: the network; it is copied and stays as it is.
        info: what to report about it; its device and precision are used.
        config: settings.
        score_map: calibrates the scores; None leaves them as the network gives them.
    """

    def __init__(
        self,
        model: CalibNet,
        info: ModelInfo,
        config: PipelineConfig,
        *,
        score_map: ScoreMap | None = None,
    ) -> None:
        self.config = config
        self.model_info = info
        self._score_map = score_map
        self._half_type = _HALF_TYPES.get(info.precision)
        self._device = torch.device(info.device)
        if self._device.type == "cuda":
            # fp32 means fp32: TF32 moves masks beyond the limits of the published figures.
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cuda.matmul.allow_tf32 = False
        on_gpu = self._device.type == "cuda"
        self._model = inference_form(model, one_batch=on_gpu).to(self._device)

    @classmethod
    def from_weights(
        cls,
        path: str | Path | None = None,
        *,
        model: str | ModelConfig | None = None,
        device: str = "cpu",
        config: PipelineConfig | str | Path | None = None,
        inference: InferenceConfig | None = None,
        precision: Precision = "fp32",
    ) -> Pipeline:
        """Build the model and load its weights; scores are calibrated if the file says how.

        Args:
            path: a weights file as `checkpoint.load_weights` takes it; None takes the weights that
                come with this package, or, for another `model` than theirs, random ones (seeded).
            model: a name from `config.MODELS` or a configuration; None takes what the file says of
                its model, else `config.model`.
            device: `cpu`, `cuda`, `cuda:N`.
            config: settings; None takes what the weights file says of its input, else defaults. A
                YAML file with some settings keeps those for the rest.
            inference: thresholds and limits; None takes those of the settings.
            precision: `fp32`, `bf16`, or on a GPU `fp16`. Half precision runs under torch's
                autocast: convolutions and products are halved, what needs range stays fp32.

        Raises:
            WeightsError: the file is unreadable or of another model.
            ConfigError: the model is unknown, the device is not there, or it lacks the precision.
        """
        if path is None:
            path = default_weights(model)
        stored = read_settings(path) if path is not None else None
        if isinstance(config, (str, Path)):
            config = settings_over(config, stored)
        config = config or stored or PipelineConfig()
        if inference is not None:
            config = replace(config, inference=inference)
        chosen_device = _usable_device(device)
        _require_usable(precision, chosen_device)
        if model is None:
            model = stored.model if stored is not None else config.model
        chosen_model = model_config(model)
        network = build_model(chosen_model, seed=RANDOM_WEIGHTS_SEED)
        sha256, score_map = "", None
        if path is not None:
            load_weights(network, path)
            sha256, score_map = sha256_of(path), read_score_map(path)
        info = ModelInfo(
            name=model_name(chosen_model),
            weights_sha256=sha256,
            device=chosen_device,
            device_name=_name_of(chosen_device),
            precision=precision,
            calibration_set=score_map.dataset if score_map else "",
            calibration_date=score_map.date if score_map else "",
        )
        return cls(network, info, replace(config, model=chosen_model), score_map=score_map)

    def predict(
        self,
        frame: RgbdFrame,
        *,
        inference: InferenceConfig | None = None,
        scale: float = 1.0,
    ) -> Instances:
        """Segment the salient objects of one frame; arguments as in `predict_batch`.

        Returns:
            Instances at the size of the frame, best first unless configured otherwise; possibly
            none.

        Raises:
            NonFiniteOutputError: the network produced NaN or infinity.
        """
        return self.predict_timed(frame, inference=inference, scale=scale)[0]

    def predict_timed(
        self,
        frame: RgbdFrame,
        *,
        inference: InferenceConfig | None = None,
        scale: float = 1.0,
    ) -> tuple[Instances, StageTimings]:
        """`predict`, with the wall time of each stage."""
        found, timings = self.predict_batch([frame], inference=inference, scale=scale)
        return found[0], timings

    @torch.inference_mode()
    def predict_batch(
        self,
        frames: Sequence[RgbdFrame],
        *,
        inference: InferenceConfig | None = None,
        scale: float = 1.0,
    ) -> tuple[list[Instances], StageTimings]:
        """Segment several frames, those of one network size in one pass.

        A frame's instances are those that it would have alone, up to rounding: how many images a
        library computes at once may change the last digits.

        Args:
            frames: of any sizes, from any cameras.
            inference: thresholds and limits of this call; None takes those of the settings.
            scale: makes the network's input smaller, see `InputConfig.scaled`; sqrt(0.5) halves its
                area, for a device that is short of memory.

        Returns:
            The instances of each frame at its size, and the wall time of the whole batch.

        Raises:
            NonFiniteOutputError: the network produced NaN or infinity for one of the frames.
            ConfigError: `scale` is out of range.
        """
        config = replace(self.config, input=self.config.input.scaled(scale))
        started = time.perf_counter()
        inputs = [prepare(frame, config, self._device) for frame in frames]
        prepared = time.perf_counter()
        predictions = self._infer(inputs)
        self._synchronise()
        inferred = time.perf_counter()
        found = [
            select_instances(
                raw,
                network_size=network_input.size,
                image_size=frame.size,
                config=inference or config.inference,
                score_map=self._score_map,
            )
            for frame, network_input, raw in zip(frames, inputs, predictions, strict=True)
        ]
        finished = time.perf_counter()
        return found, StageTimings(
            preprocess_ms=(prepared - started) * 1e3,
            inference_ms=(inferred - prepared) * 1e3,
            postprocess_ms=(finished - inferred) * 1e3,
        )

    def _infer(self, inputs: Sequence[NetworkInput]) -> list[RawPrediction]:
        """Run the network, one pass for each size; a batch of one comes back for every input."""
        by_size: dict[torch.Size, list[int]] = {}
        for index, network_input in enumerate(inputs):
            by_size.setdefault(network_input.rgb.shape, []).append(index)
        answers: dict[int, RawPrediction] = {}
        for indices in by_size.values():
            with torch.autocast(
                self._device.type, self._half_type, enabled=self._half_type is not None
            ):
                raw = self._model(
                    _batched([inputs[index].rgb for index in indices]),
                    _batched([inputs[index].depth for index in indices]),
                )
            answers |= {index: _image_of(raw, place) for place, index in enumerate(indices)}
        return [answers[index] for index in range(len(inputs))]

    def _synchronise(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def _batched(images: list[Tensor]) -> Tensor:
    batch = images[0] if len(images) == 1 else torch.cat(images)
    return batch.contiguous(memory_format=torch.channels_last)


def _image_of(raw: RawPrediction, index: int) -> RawPrediction:
    one = slice(index, index + 1)
    return RawPrediction(
        score_logits=raw.score_logits[one],
        objectness_logits=raw.objectness_logits[one],
        kernels=raw.kernels[one],
        mask_logits=raw.mask_logits[one],
    )


def _require_usable(precision: Precision, device: str) -> None:
    choices = typing.get_args(Precision)
    require(precision in choices, "precision", precision, f"one of {sorted(choices)}")
    require(
        precision != "fp16" or device != "cpu",
        "precision",
        precision,
        "fp32 or bf16 on the CPU, where fp16 takes several times as long as either",
    )


def _name_of(device: str) -> str:
    return torch.cuda.get_device_name(device) if device != "cpu" else ""


def _usable_device(device: str) -> str:
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device '{device}' is unknown; use cpu, cuda or cuda:N") from error
    if chosen.type == "cuda":
        if not torch.cuda.is_available():
            raise ConfigError(
                f"device '{device}' was asked for but no CUDA GPU can be used here; use cpu"
            )
        if (chosen.index or 0) >= torch.cuda.device_count():
            raise ConfigError(
                f"device '{device}' does not exist; this machine has "
                f"{torch.cuda.device_count()} GPUs"
            )
        return f"cuda:{chosen.index or 0}"
    if chosen.type != "cpu":
        raise ConfigError(f"device '{device}' is not supported; use cpu, cuda or cuda:N")
    return "cpu"
