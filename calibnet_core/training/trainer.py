"""The loop: batches in, a run folder out. Lightning Fabric owns devices, precision, processes."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed
from lightning_fabric import Fabric
from torch import Tensor

from calibnet_core.config import ConfigError
from calibnet_core.data.loading import Batch, TrainingImages, TrainingOrder, training_batches
from calibnet_core.models.build import build_model
from calibnet_core.models.calibnet.criterion import Criterion
from calibnet_core.models.calibnet.matcher import NonFinitePredictionError
from calibnet_core.models.calibnet.model import CalibNet
from calibnet_core.training.config import TrainConfig, differences, plain
from calibnet_core.training.initial_weights import load_initial_weights
from calibnet_core.training.losses import compute_losses
from calibnet_core.training.monitor import Monitor
from calibnet_core.training.optimisation import (
    averaged,
    build_optimizer,
    lr_factor,
    set_learning_rate,
)
from calibnet_core.training.run_folder import RunFolder
from calibnet_core.training.slow_halves import SlowHalvesInFull
from calibnet_core.training.sources import TrainingSets
from calibnet_core.training.sync_batch_norm import synchronise_batch_norms
from calibnet_core.training.validation import Validation

_MAX_SKIPPED = 50
"""Steps in a row that a gradient scaler may leave out."""


class NonFiniteLossError(RuntimeError):
    """A loss or gradient became NaN or infinite; nothing was stepped or saved after that."""


@dataclass(frozen=True)
class Step:
    """What one iteration did.

    Attributes:
        losses: the weighted terms and `total`, averaged over processes.
        gradient_norm: of all gradients together, before they are clipped.
        loading_s, computing_s: wall time waiting for the batch, and from there on.
    """

    losses: dict[str, float]
    gradient_norm: float
    loading_s: float
    computing_s: float


class Trainer:
    """One run, new or resumed.

    Args:
        config: every setting.
        sets: images to learn from and to validate on.
        folder: where the run is kept; a state in it is resumed.
        fabric: launched.
        monitor: where progress is shown.

    Raises:
        ConfigError: the folder holds a run with other settings.
        WeightsError: initial weights or the state cannot be read.
    """

    def __init__(
        self,
        config: TrainConfig,
        sets: TrainingSets,
        folder: RunFolder,
        fabric: Fabric,
        monitor: Monitor,
    ) -> None:
        self.config, self.sets, self.folder = config, sets, folder
        self.fabric, self.monitor = fabric, monitor
        self.iteration = 0
        self._skipped = 0
        # Only there: on a GPU it would do nothing, at a price for every operator.
        mends = fabric.device.type == "cpu" and config.run.precision == "bf16-mixed"
        self._arithmetic = SlowHalvesInFull if mends else contextlib.nullcontext
        self.criterion = Criterion(config.loss.weights, mask_padding=config.loss.mask_padding)
        state = None
        if folder.has_state:
            state = folder.read_state()
            self._require_same_run(state)
        self.network = self._build(is_new=state is None)
        optimizer = build_optimizer(self.network, config.optimisation)
        decay = config.optimisation.ema_decay
        self.average = averaged(self.network, decay) if decay else None
        self.model, self.optimizer = fabric.setup(self.network, optimizer)
        if self.average is not None:
            self.average.to(fabric.device)
        if state is not None:
            self._load(state)
        if fabric.is_global_zero:
            folder.cut_log(None if state is None else self.iteration)
        torch.manual_seed(config.run.seed + fabric.global_rank)
        if state is not None:
            self._restore_random_state(state["random_states"])

    @property
    def kept_model(self) -> CalibNet:
        """The network that is evaluated and saved: the average of the weights where one is kept."""
        network = self.network if self.average is None else self.average.module
        assert isinstance(network, CalibNet)
        return network

    def run(self) -> None:
        """Train until the last iteration.

        Raises:
            NonFiniteLossError: training diverged; the message names term, iteration and images.
            FrameError: an image cannot be read; the message names it.
        """
        run = self.config.run
        with self.monitor.progress(self.iteration, run.iterations):
            batches = self._batches()
            # At the start: what training is to improve on; after a crash: what it left out.
            if self._is_due(run.evaluate_every):
                self._evaluate()
            while self.iteration < run.iterations:
                step = self._step(batches)
                self.iteration += 1
                self.monitor.advance(step.losses["total"])
                if self._is_due(run.log_every):
                    self._log_step(step)
                # First: a fault of the validation set must not cost what was learnt.
                if self._is_due(run.checkpoint_every):
                    self.save()
                if self._is_due(run.evaluate_every):
                    self._evaluate()

    def _is_due(self, every: int) -> bool:
        return self.iteration % every == 0 or self.iteration == self.config.run.iterations

    def save(self) -> None:
        """Write weights and state; a run resumes from here."""
        random_states = self._gather_random_states()
        if self.fabric.is_global_zero:
            self.folder.write_weights(self.kept_model, self.config)
            self.folder.write_state(
                {
                    "iteration": self.iteration,
                    "config": plain(self.config),
                    "data": self.sets.digest,
                    "model": self.network.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "average": None if self.average is None else self.average.state_dict(),
                    "precision": self.fabric.strategy.precision.state_dict(),
                    "random_states": random_states,
                }
            )
        self.fabric.barrier()

    def _require_same_run(self, state: dict[str, Any]) -> None:
        if changed := differences(plain(self.config), state["config"]):
            raise ConfigError(
                f"{self.folder.path} was begun with other settings ({'; '.join(changed)}); resume "
                "it with its own, or start a new run in another folder"
            )
        if state["data"] != self.sets.digest:
            raise ConfigError(
                f"{self.folder.path} was begun on other images or labels, so it cannot be resumed "
                "exactly; start a new run in another folder with its weights.safetensors as "
                "run.initial_weights"
            )

    def _gather_random_states(self) -> list[dict[str, Tensor]]:
        """Of every process: torch's generator on the CPU, and on the GPU where it runs there."""
        own = {"cpu": torch.get_rng_state()}
        if self.fabric.device.type == "cuda":
            own["cuda"] = torch.cuda.get_rng_state(self.fabric.device)
        gathered = {}
        for name, own_state in own.items():
            states = self.fabric.all_gather(own_state)
            assert isinstance(states, Tensor)
            gathered[name] = states.view(self.fabric.world_size, -1).cpu()
        return [
            {name: states[process].clone() for name, states in gathered.items()}
            for process in range(self.fabric.world_size)
        ]

    def _restore_random_state(self, states: list[dict[str, Tensor]]) -> None:
        if len(states) != self.fabric.world_size:
            self.monitor.say(
                f"this run had {len(states)} processes and goes on with {self.fabric.world_size}: "
                "what networks draw at random is drawn anew"
            )
            # Not the numbers that the first iterations have used already.
            start = self.config.run.seed + 1_000_003 * self.iteration
            torch.manual_seed(start + self.fabric.global_rank)
            return
        own = states[self.fabric.global_rank]
        torch.set_rng_state(own["cpu"])
        if self.fabric.device.type == "cuda" and "cuda" in own:
            torch.cuda.set_rng_state(own["cuda"], self.fabric.device)

    def _build(self, *, is_new: bool) -> CalibNet:
        network = build_model(self.config.model, seed=self.config.run.seed)
        if is_new:
            self.monitor.say(load_initial_weights(network, self.config))
        # The layout that convolutions on a CPU work in, and half precision on a GPU.
        network.train().to(memory_format=torch.channels_last)
        for name, parameter in network.named_parameters():
            if "unused_" in name:  # carried along for published checkpoints only
                parameter.requires_grad_(False)
        if self.config.run.sync_batch_norm:
            synchronise_batch_norms(network)
        return network

    def _load(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.iteration = state["iteration"]
        self.monitor.say(f"resuming after iteration {self.iteration}")

    def _batches(self) -> Iterator[Batch]:
        train = self.sets.train
        order = TrainingOrder(
            [record.size for record in train.records],
            batch_size=self.config.run.batch_size,
            seed=self.config.run.seed,
            start=self.iteration,
            process=self.fabric.global_rank,
            num_processes=self.fabric.world_size,
        )
        images = TrainingImages(
            train,
            augmentation=self.config.augmentation,
            input_config=self.config.input,
            depth_config=self.config.depth,
            picture=self.config.model.depth_picture,
        )
        return training_batches(
            images,
            order,
            num_workers=self.config.data.workers,
            pin_memory=self.fabric.device.type == "cuda",
        )

    def _step(self, batches: Iterator[Batch]) -> Step:
        started = time.perf_counter()
        batch = next(batches)
        loaded = time.perf_counter()
        batch = batch.padded_to(self._common_canvas(batch.canvas)).to(self.fabric.device)
        optimisation = self.config.optimisation
        factor = lr_factor(self.iteration, self.config.run.iterations, optimisation)
        set_learning_rate(self.optimizer, optimisation.learning_rate * factor)
        self.optimizer.zero_grad()
        losses = self._losses(batch)
        terms = torch.stack([loss.detach() for loss in losses.values()])
        self._require_finite(losses, terms, batch)
        self.fabric.backward(losses["total"])
        norm = self._clip(batch)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        mean = self._over_processes(terms)
        return Step(
            losses=dict(zip(losses, mean.tolist(), strict=True)),
            gradient_norm=norm,
            loading_s=loaded - started,
            computing_s=time.perf_counter() - loaded,
        )

    def _losses(self, batch: Batch) -> dict[str, Tensor]:
        try:
            with self._arithmetic():
                return compute_losses(
                    self.model,
                    batch.rgb,
                    batch.depth,
                    batch.masks,
                    criterion=self.criterion,
                    sizes=batch.sizes,
                )
        except NonFinitePredictionError as error:
            raise NonFiniteLossError(self._diverged(str(error), batch)) from error

    def _require_finite(self, names: Iterable[str], terms: Tensor, batch: Batch) -> None:
        # All terms at once: a GPU is waited for once.
        for name, value in zip(names, terms.tolist(), strict=True):
            if not math.isfinite(value):
                raise NonFiniteLossError(self._diverged(f"{name} is {value}", batch))

    def _clip(self, batch: Batch) -> float:
        most = self.config.optimisation.clip_norm or math.inf
        norm = self.fabric.clip_gradients(
            self.model, self.optimizer, max_norm=most, error_if_nonfinite=False
        )
        assert norm is not None
        # A gradient scaler meets infinite gradients now and then, leaves such a step out and
        # lowers its scale; when that does not help, nothing will.
        self._skipped = 0 if norm.isfinite() else self._skipped + 1
        has_scaler = getattr(self.fabric.strategy.precision, "scaler", None) is not None
        if self._skipped > (_MAX_SKIPPED if has_scaler else 0):
            raise NonFiniteLossError(self._diverged(f"the gradient is {norm.item()}", batch))
        return float(norm)

    def _diverged(self, what: str, batch: Batch) -> str:
        return (
            f"training diverged at iteration {self.iteration + 1}: {what}, on images "
            f"{', '.join(batch.names)}; nothing was saved since. Look at these images, or start a "
            "new run with a lower optimisation.learning_rate or with optimisation.clip_norm, from "
            f"{self.folder.path / 'weights.safetensors'} as run.initial_weights if it is there"
        )

    def _common_canvas(self, canvas: tuple[int, int]) -> tuple[int, int]:
        """The canvas that holds the images of all processes, as it would in one process."""
        if self.fabric.world_size == 1:
            return canvas
        sides = torch.tensor(canvas, device=self.fabric.device)
        torch.distributed.all_reduce(sides, torch.distributed.ReduceOp.MAX)
        return int(sides[0]), int(sides[1])

    def _over_processes(self, values: Tensor) -> Tensor:
        if self.fabric.world_size > 1:
            torch.distributed.all_reduce(values)
            values /= self.fabric.world_size
        return values

    def _log_step(self, step: Step) -> None:
        if self.fabric.is_global_zero:
            self.monitor.log(
                self.iteration,
                {
                    **step.losses,
                    "gradient_norm": step.gradient_norm,
                    "learning_rate": max(group["lr"] for group in self.optimizer.param_groups),
                    "loading_s": step.loading_s,
                    "computing_s": step.computing_s,
                },
            )

    def _evaluate(self) -> None:
        """Evaluate, where there is a validation set and the log has no figures of this moment."""
        figured = {e["iteration"]: e["AP"] for e in self.folder.read_log() if "AP" in e}
        is_wanted = self.sets.validation is not None and self.iteration not in figured
        if is_wanted and self.fabric.is_global_zero:
            assert self.sets.validation is not None
            validation = Validation(self.sets.validation, self.config)
            model, device = self.kept_model, str(self.fabric.device)
            figures = validation.evaluate(model, device)
            number = self.config.run.num_sample_pictures
            self.monitor.pictures(self.iteration, validation.pictures(model, device, number))
            if figures["AP"] > max(figured.values(), default=-math.inf):
                self.folder.write_weights(model, self.config, name="best")
            # Last: what is in the log is not evaluated again.
            self.monitor.log(self.iteration, figures)
        self.fabric.barrier()
