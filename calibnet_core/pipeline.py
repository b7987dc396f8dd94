"""The one way from a frame to its instances; the node, the command line and scripts all call it."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from calibnet_core.checkpoint import load_weights, read_settings, sha256_of
from calibnet_core.config import (
    ConfigError,
    InferenceConfig,
    ModelConfig,
    PipelineConfig,
    model_name,
)
from calibnet_core.models.build import build_model, model_config
from calibnet_core.models.calibnet.model import CalibNet
from calibnet_core.models.inference_form import inference_form
from calibnet_core.postprocess import select_instances
from calibnet_core.preprocessing import prepare
from calibnet_core.structures import Instances, RgbdFrame, StageTimings

RANDOM_WEIGHTS_SEED = 0


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """Who answers.

    Attributes:
        name: model name, for instance `calibnet_r50`.
        weights_sha256: 64 hexadecimal digits of the weights file, empty when the weights are
            random.
        device: where the network really runs, for instance `cpu` or `cuda:0`.
        precision: `fp32`.
    """

    name: str
    weights_sha256: str
    device: str
    precision: str = "fp32"

    @property
    def has_random_weights(self) -> bool:
        """True when no weights were given; the masks then mean nothing."""
        return not self.weights_sha256

    @property
    def model_id(self) -> str:
        """Name and first 8 digits of the hash: enough to tell results apart."""
        return f"{self.name}-{self.weights_sha256[:8] or 'random'}"


class Pipeline:
    """Preprocessing, network and postprocessing with fixed settings. Not safe for concurrent calls.

    Args:
        model: the network; it is copied and stays as it is.
        info: what to report about it.
        config: settings.
    """

    def __init__(self, model: CalibNet, info: ModelInfo, config: PipelineConfig) -> None:
        self.config = config
        self.model_info = info
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
        path: str | Path | None,
        *,
        model: str | ModelConfig | None = None,
        device: str = "cpu",
        config: PipelineConfig | None = None,
        inference: InferenceConfig | None = None,
    ) -> Pipeline:
        """Build the model and load its weights.

        Args:
            path: a weights file as `checkpoint.load_weights` takes it; None leaves the weights
                random (seeded).
            model: a name from `config.MODELS` or a configuration; None takes what the file says of
                its model, else `config.model`.
            device: `cpu`, `cuda`, `cuda:N`.
            config: settings; None takes what the file says of its input, else defaults.
            inference: thresholds and limits; None takes those of the settings.

        Raises:
            WeightsError: the file is unreadable or of another model.
            ConfigError: the model is unknown or the device is not there.
        """
        stored = read_settings(path) if path is not None else None
        config = config or stored or PipelineConfig()
        if inference is not None:
            config = replace(config, inference=inference)
        chosen_device = _usable_device(device)
        if model is None:
            model = stored.model if stored is not None else config.model
        chosen_model = model_config(model)
        network = build_model(chosen_model, seed=RANDOM_WEIGHTS_SEED)
        sha256 = ""
        if path is not None:
            load_weights(network, path)
            sha256 = sha256_of(path)
        name = model_name(chosen_model)
        info = ModelInfo(name=name, weights_sha256=sha256, device=chosen_device)
        return cls(network, info, replace(config, model=chosen_model))

    def predict(self, frame: RgbdFrame) -> Instances:
        """Segment the salient objects of one frame.

        Returns:
            Instances at the size of the frame, best first unless configured otherwise; possibly
            none.

        Raises:
            NonFiniteOutputError: the network produced NaN or infinity.
        """
        return self.predict_timed(frame)[0]

    @torch.inference_mode()
    def predict_timed(self, frame: RgbdFrame) -> tuple[Instances, StageTimings]:
        """`predict`, with the wall time of each stage."""
        started = time.perf_counter()
        network_input = prepare(frame, self.config, self._device)
        prepared = time.perf_counter()
        raw = self._model(
            network_input.rgb.contiguous(memory_format=torch.channels_last),
            network_input.depth.contiguous(memory_format=torch.channels_last),
        )
        self._synchronise()
        inferred = time.perf_counter()
        instances = select_instances(
            raw,
            network_size=network_input.size,
            image_size=frame.size,
            config=self.config.inference,
        )
        finished = time.perf_counter()
        return instances, StageTimings(
            preprocess_ms=(prepared - started) * 1e3,
            inference_ms=(inferred - prepared) * 1e3,
            postprocess_ms=(finished - inferred) * 1e3,
        )

    def _synchronise(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


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
