from __future__ import annotations

from pathlib import Path

import pytest

from calibnet_core.cli import main
from calibnet_core.training.config import to_yaml
from tests.support.datasets import write_rendered_set
from tests.support.training import tiny_config


@pytest.fixture
def config(tmp_path: Path) -> Path:
    data = write_rendered_set(tmp_path / "tables", 2)
    path = tmp_path / "train.yaml"
    path.write_text(to_yaml(tiny_config(data, run={"iterations": 2})))
    return path


def test_a_run_is_trained_and_never_overwritten(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    start = ["train", "--output", str(folder), "--accelerator", "cpu"]
    assert main([*start, "--config", str(config)]) == 0
    assert str(folder / "weights.safetensors") in capsys.readouterr().out
    before = (folder / "state.pt").read_bytes()

    assert main([*start, "--config", str(config)]) == 2
    assert "go on with it by --resume" in capsys.readouterr().err
    assert (folder / "state.pt").read_bytes() == before

    assert main([*start, "--resume"]) == 0  # nothing left to do
    assert main([*start, "--resume", "--config", str(config)]) == 0


def test_a_run_is_called_after_its_settings(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--config", str(config), "--accelerator", "cpu"]) == 0
    assert (tmp_path / "runs" / "train" / "weights.safetensors").is_file()


def test_resuming_needs_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        assert main(["train", "--output", str(folder), "--resume"]) == 2
        assert "holds no run to resume" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()


def test_a_new_run_needs_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--output", str(tmp_path)]) == 2
    assert "--config FILE" in capsys.readouterr().err


def test_a_resumed_run_keeps_its_settings(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = ["train", "--output", str(tmp_path / "run"), "--accelerator", "cpu"]
    assert main([*start, "--config", str(config)]) == 0
    config.write_text(config.read_text().replace("clip_norm: 5.0", "clip_norm: 4.0"))
    assert main([*start, "--resume", "--config", str(config)]) == 2
    assert "optimisation.clip_norm: 4.0, not 5.0" in capsys.readouterr().err


def test_a_damaged_state_is_named(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    start = ["train", "--output", str(folder), "--accelerator", "cpu"]
    assert main([*start, "--config", str(config)]) == 0
    state = folder / "state.pt"
    state.write_bytes(state.read_bytes()[:1000])
    assert main([*start, "--resume"]) == 2
    message = capsys.readouterr().err
    assert str(state) in message
    assert "weights.safetensors" in message


def test_a_faulty_set_is_refused_before_anything_is_trained(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tables" / "depths" / "table_001.png").unlink()
    assert main(["train", "--output", str(tmp_path / "run"), "--config", str(config)]) == 2
    message = capsys.readouterr().err
    assert "table_001.png is not there" in message
    assert not (tmp_path / "run" / "weights.safetensors").exists()


def test_more_devices_than_processes_are_explained(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", "--output", str(tmp_path / "run"), "--config", str(config)]
    assert main([*arguments, "--devices", "2"]) == 2
    assert "torchrun --nproc-per-node 2" in capsys.readouterr().err
