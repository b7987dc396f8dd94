"""`fit`: settings and a folder go in, a trained model comes out."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from calibnet_core.config import ConfigError
from calibnet_core.training.config import TrainConfig
from calibnet_core.training.monitor import Monitor
from calibnet_core.training.run_folder import RunFolder
from calibnet_core.training.sources import open_training_sets
from calibnet_core.training.trainer import Trainer

_BARRIER = timedelta(hours=12)
"""How long processes wait for the first one, which validates alone."""


def fit(
    config: TrainConfig,
    folder: RunFolder,
    *,
    accelerator: str = "auto",
    devices: int | None = None,
) -> Trainer:
    """Train, from the start or from the state in the folder.

    Under torchrun every process calls this; batches are shared among them.

    Args:
        config: every setting.
        folder: where the run is kept.
        accelerator: `auto`, `cpu` or `cuda`.
        devices: processes on this machine; None takes torchrun's, or 1.

    Raises:
        ConfigError, DatasetError, WeightsError: the run cannot start.
        NonFiniteLossError: training diverged; the last state is intact.
    """
    sets = open_training_sets(config.data)
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if devices is not None and devices != local:
        raise ConfigError(
            f"--devices is {devices} but {local} processes were started; start them with "
            f"torchrun --nproc-per-node {devices}"
        )
    if config.run.batch_size % world:
        raise ConfigError(
            f"run.batch_size is {config.run.batch_size}, which {world} processes cannot share; "
            "choose a multiple of them"
        )
    fabric = _fabric(config, accelerator, local, world)
    fabric.launch()
    if fabric.device.type == "cuda":
        # fp32 means fp32, with and without validation, whose pipeline sets the same.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
    if fabric.is_global_zero and not folder.has_state:
        folder.write_config(config)
    fabric.barrier()
    monitor = Monitor(folder, is_silent=not fabric.is_global_zero)
    for note in sets.notes:
        monitor.say(note)
    trainer = Trainer(config, sets, folder, fabric, monitor)
    trainer.run()
    return trainer


def _fabric(config: TrainConfig, accelerator: str, local: int, world: int) -> Fabric:
    several = DDPStrategy(find_unused_parameters=True, timeout=_BARRIER)
    try:
        fabric = Fabric(
            accelerator=accelerator,
            devices=local,
            num_nodes=world // local,
            strategy=several if world > 1 else "auto",
            precision=config.run.precision,
        )
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"accelerator '{accelerator}' with {local} devices cannot be used here ({error}); "
            "choose another accelerator or fewer processes"
        ) from error
    if config.run.precision == "16-mixed" and fabric.device.type == "cpu":
        raise ConfigError(
            "run.precision is '16-mixed', which needs a GPU; use 'bf16-mixed' or '32-true' on a CPU"
        )
    return fabric
