"""`fit`: settings and a folder go in, a trained model comes out."""

from __future__ import annotations

import os

from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from calibnet_core.config import ConfigError
from calibnet_core.training.config import TrainConfig
from calibnet_core.training.monitor import Monitor
from calibnet_core.training.run_folder import RunFolder
from calibnet_core.training.sources import open_training_sets
from calibnet_core.training.trainer import Trainer


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
    fabric = Fabric(
        accelerator=accelerator,
        devices=local,
        num_nodes=world // local,
        strategy=DDPStrategy(find_unused_parameters=True) if world > 1 else "auto",
        precision=config.run.precision,
    )
    fabric.launch()
    if fabric.is_global_zero and not folder.has_state:
        folder.write_config(config)
    fabric.barrier()
    monitor = Monitor(folder, is_silent=not fabric.is_global_zero)
    for note in sets.notes:
        monitor.say(note)
    trainer = Trainer(config, sets, folder, fabric, monitor)
    trainer.run()
    return trainer
