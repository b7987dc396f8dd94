"""Settings of a training run; `config/train/*.yaml` show them all."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import yaml

from calibnet_core.config import DepthConfig, InputConfig, ModelConfig, PipelineConfig, require
from calibnet_core.data.transforms import AugmentationConfig
from calibnet_core.models.calibnet.criterion import LossWeights

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
Schedule = Literal["steps", "cosine"]
NoDecay = Literal["published", "one_dimensional"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What to learn from."""

    train: tuple[str, ...] = ()
    """Sets to learn from: names of published sets, annotation files or folders."""
    root: str | None = None
    """Folder of the published sets; needed for their names."""
    validation: str | None = None
    """Set to evaluate on while training."""
    hold_out: float = 0.0
    """Without `validation`: this share of the scenes is held out for it; 0 evaluates nothing."""
    hold_out_seed: int = 0
    """Which scenes are held out."""
    skip_faulty: bool = False
    """Leave faulty images out, naming them, instead of refusing the set."""
    skip_empty: bool = True
    """Leave images without instances out, as published."""
    workers: int = 2
    """Processes that read images."""

    def __post_init__(self) -> None:
        require(0.0 <= self.hold_out < 1.0, "data.hold_out", self.hold_out, "0 to below 1")
        require(
            not (self.hold_out and self.validation),
            "data.hold_out",
            self.hold_out,
            "0 where data.validation names a set",
        )
        require(0 <= self.workers <= 64, "data.workers", self.workers, "0 to 64")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What is minimised."""

    weights: LossWeights = field(default_factory=LossWeights)
    mask_padding: bool = False
    """Leave padded cells out of matching and losses; published runs count them as background."""


@dataclass(frozen=True, kw_only=True)
class OptimisationConfig:
    """AdamW and its schedule. The defaults are the published ones."""

    learning_rate: float = 2.5e-5
    backbone_factor: float = 1.0
    """Factor of the learning rate in both backbones."""
    weight_decay: float = 1e-4
    no_decay: NoDecay = "published"
    """Which parameters are not decayed: the published choice by name, or all of one dimension."""
    warmup_iterations: int = 1000
    """Iterations over which the rate rises linearly from a thousandth."""
    schedule: Schedule = "steps"
    """Steps of a tenth at `steps`, or a cosine to zero at the end."""
    steps: tuple[int, ...] = (70_000, 90_000)
    """Iterations from which the rate is a tenth of what it was."""
    clip_norm: float = 0.0
    """Gradients longer than this are shortened to it; 0 never."""
    ema_decay: float = 0.0
    """Decay of an exponential moving average of the weights, which is then what is evaluated and
    kept; 0 keeps the weights themselves. Early on the average is shorter.
    """

    def __post_init__(self) -> None:
        for name in ("learning_rate", "backbone_factor", "weight_decay", "clip_norm"):
            value = getattr(self, name)
            require(
                math.isfinite(value) and value >= 0.0, f"optimisation.{name}", value, "0 or more"
            )
        require(self.learning_rate > 0.0, "optimisation.learning_rate", 0.0, "more than 0")
        require(
            0.0 <= self.ema_decay < 1.0, "optimisation.ema_decay", self.ema_decay, "0 to below 1"
        )
        require(
            self.warmup_iterations >= 0,
            "optimisation.warmup_iterations",
            self.warmup_iterations,
            "0 or more",
        )
        require(
            list(self.steps) == sorted(set(self.steps)) and all(step > 0 for step in self.steps),
            "optimisation.steps",
            self.steps,
            "rising iterations above 0",
        )
        for name, kind in (("no_decay", NoDecay), ("schedule", Schedule)):
            choices = get_args(kind)
            require(
                getattr(self, name) in choices,
                f"optimisation.{name}",
                getattr(self, name),
                f"one of {sorted(choices)}",
            )


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Length, pace and bookkeeping of a run."""

    seed: int = 0
    """Of weights, order and variations."""
    iterations: int = 100_000
    """Steps of the optimiser."""
    batch_size: int = 4
    """Images a step, of all processes together."""
    precision: Precision = "32-true"
    sync_batch_norm: bool = True
    """Batch norms see the batch of all processes, as they would in one; False keeps to each one's
    share of it. In a single process there is no difference.
    """
    log_every: int = 20
    """Iterations between entries of the log."""
    checkpoint_every: int = 1000
    """Iterations between states that a run can resume from."""
    evaluate_every: int = 20_000
    """Iterations between evaluations and pictures of samples."""
    num_sample_pictures: int = 4
    """Validation images that are drawn at every evaluation."""
    initial_weights: str | None = None
    """Weights of a whole model to start from, for fine-tuning."""
    backbone_weights: str | None = None
    """ImageNet weights of the backbone: a local file, or `torchvision` to download them."""

    def __post_init__(self) -> None:
        for name in ("iterations", "batch_size", "log_every", "checkpoint_every", "evaluate_every"):
            require(getattr(self, name) >= 1, f"run.{name}", getattr(self, name), "1 or more")
        choices = get_args(Precision)
        require(
            self.precision in choices, "run.precision", self.precision, f"one of {sorted(choices)}"
        )
        require(0 <= self.seed < 2**32, "run.seed", self.seed, "a number from 0 to below 2**32")
        require(
            0 <= self.num_sample_pictures <= 64,
            "run.num_sample_pictures",
            self.num_sample_pictures,
            "a number from 0 to 64",
        )
        require(
            not (self.initial_weights and self.backbone_weights),
            "run.backbone_weights",
            self.backbone_weights,
            "either it or run.initial_weights, which bring their backbone along",
        )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides the outcome of a run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    input: InputConfig = field(default_factory=InputConfig)
    depth: DepthConfig = field(default_factory=DepthConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimisation: OptimisationConfig = field(default_factory=OptimisationConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        optimisation, iterations = self.optimisation, self.run.iterations
        require(
            optimisation.warmup_iterations < iterations,
            "optimisation.warmup_iterations",
            optimisation.warmup_iterations,
            f"fewer than run.iterations ({iterations})",
        )
        require(
            optimisation.schedule != "steps" or all(s < iterations for s in optimisation.steps),
            "optimisation.steps",
            optimisation.steps,
            f"iterations below run.iterations ({iterations}), or an empty list",
        )

    @property
    def pipeline(self) -> PipelineConfig:
        """How the trained model is to be used: same model, input size and depth picture."""
        return PipelineConfig(model=self.model, input=self.input, depth=self.depth)


def to_yaml(config: Any) -> str:
    """A configuration as YAML that `load_config` reads back to an equal one."""
    return yaml.safe_dump(plain(config), sort_keys=False)


def plain(config: Any) -> dict[str, Any]:
    """A configuration as mappings, lists, text and numbers."""
    values: dict[str, Any] = _plain(dataclasses.asdict(config))
    return values


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Where two configurations in plain form differ, as `section.key: this, not that`."""
    ours, theirs = (dict(_flat("", values)) for values in (one, other))
    return [
        f"{key}: {ours.get(key)!r}, not {theirs.get(key)!r}"
        for key in {**theirs, **ours}
        if key not in ours or key not in theirs or ours[key] != theirs[key]
    ]


def _flat(prefix: str, values: dict[str, Any]) -> list[tuple[str, Any]]:
    entries: list[tuple[str, Any]] = []
    for key, value in values.items():
        name = f"{prefix}.{key}".lstrip(".")
        entries += _flat(name, value) if isinstance(value, dict) else [(name, value)]
    return entries


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, (tuple, list)) else value
