"""Training rows of the tables on a set of one's own."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from calibnet_core.ablation.rows import ROWS, AblationRow
from calibnet_core.config import ConfigError, ModelConfig
from calibnet_core.models.calibnet.criterion import LossWeights
from calibnet_core.training.config import TrainConfig
from calibnet_core.training.fitting import fit
from calibnet_core.training.run_folder import RunFolder

FIGURES = ("AP", "AP50", "AP70")


def row_config(row: AblationRow, base: TrainConfig) -> TrainConfig:
    """The settings of a run of `row`: those of `base`, but for what the row's table is about.

    A base of another size or backbone keeps it where the table does not vary that, so rows can be
    compared on a compact network, too.

    Raises:
        ConfigError: the row does not fit the base.
    """
    varied = _varied_settings(row.table)
    changed = {name: getattr(row.model, name) for name in varied}
    if "backbone" in varied and base.run.backbone_weights not in (None, "torchvision"):
        raise ConfigError(
            f"table {row.table} varies the backbone, but run.backbone_weights is a file of one; "
            "use 'torchvision', or train each row with a file of its own"
        )
    weights = {name.removeprefix("loss_"): value for name, value in row.loss_weights.items()}
    loss_weights: LossWeights = dataclasses.replace(base.loss.weights, **weights)
    return dataclasses.replace(
        base,
        model=dataclasses.replace(base.model, **changed),
        loss=dataclasses.replace(base.loss, weights=loss_weights),
    )


def _varied_settings(table: str) -> list[str]:
    """Model settings in which any row of a table differs from the published network."""
    published = dataclasses.asdict(ModelConfig())
    models = [dataclasses.asdict(row.model) for row in ROWS if row.table == table]
    return [
        name for name, value in published.items() if any(model[name] != value for model in models)
    ]


def train_row(
    row: AblationRow, base: TrainConfig, folder: Path, *, accelerator: str = "auto"
) -> dict[str, float]:
    """Train a row, or go on with its run, in a folder of its own below `folder`.

    Returns:
        AP, AP50 and AP70 in per cent on the validation set after the last iteration.

    Raises:
        ConfigError: there is no validation set, or the folder holds a run with other settings.
    """
    if base.data.validation is None and not base.data.hold_out:
        raise ConfigError(
            "rows are compared on a validation set; name one as data.validation, or hold scenes "
            "out by data.hold_out"
        )
    run = RunFolder(folder / row.key.replace(":", "_").replace("+", "_"))
    fit(row_config(row, base), run, accelerator=accelerator)
    figures = [entry for entry in run.read_log() if set(FIGURES) <= entry.keys()]
    return {name: float(figures[-1][name]) for name in FIGURES}
