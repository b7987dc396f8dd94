"""The folder of a run: everything to resume it, to use its model and to look at it.

config.yaml          every setting of the run
pipeline.yaml        how to use the model: `calibnet predict --weights ... --config ...`
weights.safetensors  the model as last saved, the average of the weights where one is kept
best.safetensors     the same where the validation AP was highest
state.pt             what resuming needs
log.jsonl            losses and figures, one JSON object a line
events.out.tfevents* the same for TensorBoard
samples/             validation images with what the model finds
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from calibnet_core.checkpoint import save_weights
from calibnet_core.config import load_config, model_name
from calibnet_core.files import atomic_write
from calibnet_core.models.calibnet.model import CalibNet
from calibnet_core.structures import WeightsError
from calibnet_core.training.config import TrainConfig, to_yaml

State = dict[str, Any]


class RunFolder:
    """Reads and writes the files of a run; each appears complete or not at all.

    Args:
        path: the folder; created when missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    @property
    def has_state(self) -> bool:
        """Whether there is a run to resume."""
        return self._state.is_file()

    @property
    def has_config(self) -> bool:
        """Whether a run was begun here, maybe without getting as far as a state."""
        return (self.path / "config.yaml").is_file()

    @property
    def samples(self) -> Path:
        """Where pictures of samples go."""
        folder = self.path / "samples"
        folder.mkdir(exist_ok=True)
        return folder

    @property
    def _state(self) -> Path:
        return self.path / "state.pt"

    def write_config(self, config: TrainConfig) -> None:
        """Write `config.yaml` and `pipeline.yaml`."""
        for name, content in (("config", config), ("pipeline", config.pipeline)):
            with atomic_write(self.path / f"{name}.yaml", "w") as file:
                file.write(to_yaml(content))

    def read_config(self) -> TrainConfig:
        """The settings of the run.

        Raises:
            ConfigError: there is no such file, or it was damaged.
        """
        return load_config(self.path / "config.yaml", TrainConfig)

    def write_state(self, state: State) -> None:
        """Write what resuming needs: tensors, numbers, text, lists and mappings only."""
        with atomic_write(self._state) as file:
            torch.save(state, file)

    def read_state(self) -> State:
        """What `write_state` wrote, on the CPU.

        Raises:
            WeightsError: the file is damaged or holds anything else.
        """
        try:
            # The restricted unpickler: nothing in the file is executed.
            state: State = torch.load(self._state, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged stream raises anything
            raise WeightsError(
                f"{self._state}: is damaged or no state of a run; start from "
                f"{self.path / 'weights.safetensors'} as run.initial_weights instead"
            ) from error
        if not isinstance(state, dict) or not {"iteration", "config", "data"} <= state.keys():
            raise WeightsError(f"{self._state}: is no state of a run; remove it to start anew")
        return state

    def write_weights(self, model: CalibNet, config: TrainConfig, *, name: str = "weights") -> Path:
        """Write the model to `NAME.safetensors`; returns the path."""
        path = self.path / f"{name}.safetensors"
        save_weights(model, path, model_name=model_name(config.model), settings=config.pipeline)
        return path

    def read_log(self) -> list[dict[str, Any]]:
        """The entries of `log.jsonl`, oldest first; a line cut off by a crash is left out."""
        path = self.path / "log.jsonl"
        entries = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            try:
                entries.append(json.loads(line))
            except ValueError:
                continue
        return entries

    def append_log(self, entry: dict[str, Any]) -> None:
        """Add a line to `log.jsonl`."""
        with (self.path / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def cut_log(self, iteration: int | None) -> None:
        """Drop what was logged after `iteration`, which a run computes again; None drops all."""
        kept = [
            entry
            for entry in self.read_log()
            if iteration is not None and entry["iteration"] <= iteration
        ]
        with atomic_write(self.path / "log.jsonl", "w") as file:
            file.writelines(json.dumps(entry) + "\n" for entry in kept)
