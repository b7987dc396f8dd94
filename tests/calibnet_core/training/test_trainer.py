from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from calibnet_core import Pipeline
from calibnet_core.checkpoint import read_settings, read_state_dict
from calibnet_core.cli import main
from calibnet_core.config import ConfigError
from calibnet_core.data.datasets import open_dataset
from calibnet_core.models.calibnet import CalibNet
from calibnet_core.structures import FrameError
from calibnet_core.training import compute_losses
from calibnet_core.training.config import TrainConfig, to_yaml
from calibnet_core.training.fitting import fit
from calibnet_core.training.run_folder import RunFolder
from calibnet_core.training.trainer import NonFiniteLossError, Trainer
from calibnet_core.training.validation import Validation
from tests.support.datasets import write_rendered_set
from tests.support.listening import InputTypes
from tests.support.shared import REPOSITORY
from tests.support.training import TINY_MODEL, tiny_config

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rendered_set(tmp_path_factory.mktemp("data") / "tables", 5)


def read_log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def weights(folder: Path, name: str = "weights") -> dict[str, torch.Tensor]:
    return read_state_dict(folder / f"{name}.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def states_agree(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(states_agree(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(states_agree, one, other))
    return bool(one == other)


@pytest.fixture(scope="module")
def whole_run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    fit(tiny_config(data), RunFolder(folder), accelerator="cpu")
    return folder


def test_a_run_leaves_everything_to_use_and_resume_its_model(whole_run: Path) -> None:
    names = {path.name.split(".17")[0] for path in whole_run.iterdir()}
    assert {"config.yaml", "pipeline.yaml", "weights.safetensors", "state.pt", "log.jsonl"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    log = read_log(whole_run)
    assert [entry["iteration"] for entry in log] == [1, 2, 3, 4, 5, 6]
    assert {"loss_ce", "loss_d2", "total", "gradient_norm", "learning_rate"} <= log[0].keys()
    assert log[0]["learning_rate"] == pytest.approx(1e-3 * 0.001)
    assert log[-1]["learning_rate"] == pytest.approx(1e-4)


def test_the_weights_rebuild_their_model(whole_run: Path, data: Path) -> None:
    path = whole_run / "weights.safetensors"
    assert read_settings(path) == RunFolder(whole_run).read_config().pipeline
    pipeline = Pipeline.from_weights(path)
    assert not pipeline.model_info.has_random_weights
    assert pipeline.config.model == TINY_MODEL
    assert pipeline.config.input.longest_edge == 64
    pipeline.predict(open_dataset(data).load(0).frame)


def test_what_is_kept_is_the_average_of_the_weights(whole_run: Path, data: Path) -> None:
    state = RunFolder(whole_run).read_state()
    kept = weights(whole_run)
    average = {
        key.removeprefix("module."): value
        for key, value in state["average"].items()
        if key.startswith("module.")
    }
    assert all(torch.equal(kept[key], value) for key, value in average.items() if key in kept)
    assert not same(kept, {key: state["model"][key] for key in kept})


def test_a_run_repeats_itself_bit_for_bit(whole_run: Path, data: Path, tmp_path: Path) -> None:
    fit(tiny_config(data), RunFolder(tmp_path), accelerator="cpu")
    assert same(weights(tmp_path), weights(whole_run))
    assert states_agree(RunFolder(tmp_path).read_state(), RunFolder(whole_run).read_state())


def test_another_seed_trains_otherwise(whole_run: Path, data: Path, tmp_path: Path) -> None:
    fit(tiny_config(data, run={"seed": 1, "iterations": 2}), RunFolder(tmp_path), accelerator="cpu")
    assert read_log(tmp_path)[0]["total"] != read_log(whole_run)[0]["total"]


class InterruptionError(Exception):
    """Stands for whatever ends a run."""


@pytest.mark.parametrize("at", [1, 3, 5])
def test_an_interrupted_run_ends_with_the_same_bits(
    at: int, whole_run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, seen = Trainer._step, []

    def interrupted(self: Trainer, batches: Any) -> Any:
        if self.iteration == at and not seen:
            seen.append(at)
            raise InterruptionError
        return step(self, batches)

    monkeypatch.setattr(Trainer, "_step", interrupted)
    with pytest.raises(InterruptionError):
        fit(tiny_config(data), RunFolder(tmp_path), accelerator="cpu")
    torch.manual_seed(999)  # whatever happens in between
    fit(tiny_config(data), RunFolder(tmp_path), accelerator="cpu")

    assert same(weights(tmp_path), weights(whole_run))
    assert states_agree(RunFolder(tmp_path).read_state(), RunFolder(whole_run).read_state())
    for entry, expected in zip(read_log(tmp_path), read_log(whole_run), strict=True):
        for name in expected.keys() - {"loading_s", "computing_s"}:
            assert entry[name] == expected[name], name


def test_random_numbers_go_on_where_a_run_was_interrupted(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, drawn = Trainer._step, []

    def drawing(self: Trainer, batches: Any) -> Any:
        drawn.append((self.iteration, float(torch.rand(()))))  # as dropped paths do
        if len(drawn) == 10:  # iteration 3 of the second run
            raise InterruptionError
        return step(self, batches)

    monkeypatch.setattr(Trainer, "_step", drawing)
    fit(tiny_config(data), RunFolder(tmp_path / "whole"), accelerator="cpu")
    whole = dict(drawn)
    with pytest.raises(InterruptionError):
        fit(tiny_config(data), RunFolder(tmp_path / "run"), accelerator="cpu")
    del drawn[:]
    fit(tiny_config(data), RunFolder(tmp_path / "run"), accelerator="cpu")
    assert dict(drawn) == {iteration: whole[iteration] for iteration in (2, 3, 4, 5)}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "calibnet_core.cli", "train", *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}


def write_config(config: TrainConfig, folder: Path) -> Path:
    path = folder / "train.yaml"
    path.write_text(to_yaml(config))
    return path


def test_a_killed_process_resumes_to_the_same_bits(data: Path, tmp_path: Path) -> None:
    config = tiny_config(data, run={"iterations": 12, "checkpoint_every": 1})
    path = write_config(config, tmp_path)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command("--config", str(path), "-o", str(whole)), env=environment(), check=True)

    process = subprocess.Popen(command("--config", str(path), "-o", str(killed)), env=environment())
    deadline = time.monotonic() + 200
    while not (killed / "state.pt").is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.05 + int.from_bytes(os.urandom(1), "big") / 500)  # anywhere in an iteration
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL, "the run ended before it could be killed"

    subprocess.run(command("--resume", "-o", str(killed)), env=environment(), check=True)
    assert same(weights(killed), weights(whole))
    assert states_agree(RunFolder(killed).read_state(), RunFolder(whole).read_state())


def test_two_processes_train_as_one_does(data: Path, tmp_path: Path) -> None:
    config = tiny_config(
        data,
        run={"iterations": 4},
        loss={"mask_padding": True},
        data={"skip_empty": False},
    )
    path = write_config(config, tmp_path)
    one, two = tmp_path / "one", tmp_path / "two"
    subprocess.run(
        command("--config", str(path), "-o", str(one), "--accelerator", "cpu"),
        env=environment(),
        check=True,
    )
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run(
        [
            *torchrun,
            *command("--config", str(path), "-o", str(two), "--accelerator", "cpu")[1:],
        ],
        env=environment(),
        check=True,
    )
    logs = read_log(one), read_log(two)
    assert len(logs[0]) == len(logs[1]) == 4
    for alone, shared in zip(*logs, strict=True):
        for name in (key for key in alone if key.startswith("loss_") or key == "total"):
            assert shared[name] == pytest.approx(alone[name], rel=1e-5, abs=1e-7), (
                alone["iteration"],
                name,
            )


def test_a_run_that_diverges_names_term_iteration_and_images(data: Path, tmp_path: Path) -> None:
    config = tiny_config(
        data, optimisation={"learning_rate": 1e30, "warmup_iterations": 0, "clip_norm": 0.0}
    )
    folder = RunFolder(tmp_path)
    with pytest.raises(
        NonFiniteLossError, match=r"diverged at iteration \d: .*(NaN|nan|inf).*table_00\d\.png"
    ):
        fit(config, folder, accelerator="cpu")
    assert not folder.has_state or all(
        value.isfinite().all() for value in folder.read_state()["model"].values()
    )


def test_a_term_that_is_no_number_is_named(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any, **options: Any) -> dict[str, torch.Tensor]:
        losses = compute_losses(*arguments, **options)
        return {**losses, "loss_d2": losses["loss_d2"] * float("nan")}

    monkeypatch.setattr("calibnet_core.training.trainer.compute_losses", broken)
    with pytest.raises(
        NonFiniteLossError, match=r"at iteration 1: loss_d2 is nan, on images table"
    ):
        fit(tiny_config(data), RunFolder(tmp_path), accelerator="cpu")


def test_validation_figures_and_pictures_appear_while_it_trains(data: Path, tmp_path: Path) -> None:
    config = tiny_config(
        data,
        data={"hold_out": 0.4},
        run={"iterations": 2, "evaluate_every": 2, "num_sample_pictures": 2},
    )
    fit(config, RunFolder(tmp_path), accelerator="cpu")
    figures = read_log(tmp_path)[-1]
    assert {"AP", "AP50", "AP70", "AP75", "AR100"} <= figures.keys()
    assert (tmp_path / "samples" / "0000002.png").is_file()
    assert (tmp_path / "best.safetensors").is_file()


def test_a_run_resumes_with_its_own_settings_only(whole_run: Path, data: Path) -> None:
    other = tiny_config(data, optimisation={"learning_rate": 2e-3})
    with pytest.raises(ConfigError, match=r"optimisation\.learning_rate: 0\.002, not 0\.001"):
        fit(other, RunFolder(whole_run), accelerator="cpu")


def copied(run: Path, folder: Path) -> RunFolder:
    shutil.copytree(run, folder)
    return RunFolder(folder)


def test_a_run_does_not_resume_on_other_images(whole_run: Path, tmp_path: Path, data: Path) -> None:
    folder = copied(whole_run, tmp_path / "run")
    state = folder.read_state()
    folder.write_state({**state, "data": "0" * 64})
    with pytest.raises(ConfigError, match="begun on other images or labels"):
        fit(tiny_config(data), folder, accelerator="cpu")


def test_a_run_resumes_with_another_number_of_processes(
    whole_run: Path, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(whole_run, tmp_path / "run")
    state = folder.read_state()
    folder.write_state({**state, "random_states": 2 * state["random_states"]})
    fit(tiny_config(data), folder, accelerator="cpu")
    assert "had 2 processes and goes on with 1" in capsys.readouterr().err


def test_a_run_that_was_killed_before_its_first_state_starts_again(
    whole_run: Path, data: Path, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.write_config(tiny_config(data))
    folder.append_log({"iteration": 0, "AP": 99.0})
    assert main(["train", "-o", str(folder.path), "--resume", "--accelerator", "cpu"]) == 0
    assert same(weights(folder.path), weights(whole_run))
    assert [entry["iteration"] for entry in folder.read_log()] == [1, 2, 3, 4, 5, 6]


def test_a_fault_of_the_validation_set_does_not_cost_what_was_learnt(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate, calls = Validation.evaluate, []

    def fails_later(self: Validation, *arguments: Any) -> dict[str, float]:
        calls.append(arguments)
        if len(calls) > 1:
            raise FrameError("validation failed: table_003.png: is damaged")
        return evaluate(self, *arguments)

    config = tiny_config(data, data={"hold_out": 0.4}, run={"iterations": 3, "evaluate_every": 3})
    path, folder = write_config(config, tmp_path), RunFolder(tmp_path / "run")
    start = ["train", "-o", str(folder.path), "--config", str(path), "--accelerator", "cpu"]
    with monkeypatch.context() as patch:
        patch.setattr(Validation, "evaluate", fails_later)
        assert main(start) == 2
    assert "table_003.png: is damaged" in capsys.readouterr().err
    assert folder.read_state()["iteration"] == 3
    assert (folder.path / "weights.safetensors").is_file()

    # With the file mended, the resumed run makes up for the evaluation, and for that only.
    assert main([*start, "--resume"]) == 0
    assert [e["iteration"] for e in folder.read_log() if "AP" in e] == [0, 3]
    assert main([*start, "--resume"]) == 0
    assert [e["iteration"] for e in folder.read_log() if "AP" in e] == [0, 3]


def test_what_cannot_be_shared_or_computed_here_is_said_before_training(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(ConfigError, match="needs a GPU"):
        fit(tiny_config(data, run={"precision": "16-mixed"}), folder, accelerator="cpu")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="accelerator 'cuda'"):
            fit(tiny_config(data), folder, accelerator="cuda")
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match=r"run\.batch_size is 2, which 3 processes"):
        fit(tiny_config(data), folder, accelerator="cpu")
    assert not folder.has_config


def test_fine_tuning_starts_from_given_weights(whole_run: Path, data: Path, tmp_path: Path) -> None:
    start = whole_run / "weights.safetensors"
    config = tiny_config(
        data,
        run={"iterations": 1, "initial_weights": str(start)},
        optimisation={"learning_rate": 1e-12, "ema_decay": 0.0},
    )
    trainer = fit(config, RunFolder(tmp_path), accelerator="cpu")
    assert isinstance(trainer.kept_model, CalibNet)
    kept, given = weights(tmp_path), weights(whole_run)
    for name, parameter in trainer.network.named_parameters():
        torch.testing.assert_close(kept[name], given[name], msg=name)
        assert parameter.shape == kept[name].shape


def test_bfloat16_trains_to_about_the_same_losses(
    whole_run: Path, data: Path, tmp_path: Path
) -> None:
    config = tiny_config(data, run={"iterations": 2, "precision": "bf16-mixed"})
    fit(config, RunFolder(tmp_path), accelerator="cpu")
    half, single = read_log(tmp_path)[0], read_log(whole_run)[0]
    assert half["total"] == pytest.approx(single["total"], rel=0.05)
    assert half["total"] != single["total"]
    assert all(
        v.dtype == torch.float32 for v in weights(tmp_path).values() if v.is_floating_point()
    )


def test_in_bfloat16_a_cpu_computes_group_norms_in_float32(data: Path, tmp_path: Path) -> None:
    config = tiny_config(data, run={"iterations": 1, "precision": "bf16-mixed"})
    with InputTypes(F.group_norm) as norms:
        fit(config, RunFolder(tmp_path), accelerator="cpu")
    assert norms.types == {torch.float32}
