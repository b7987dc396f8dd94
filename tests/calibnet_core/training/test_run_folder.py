from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from calibnet_core import PipelineConfig, load_config
from calibnet_core.structures import WeightsError
from calibnet_core.training.run_folder import RunFolder
from tests.support.training import tiny_config


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "runs" / "mine")


def test_settings_read_back_equal(folder: RunFolder) -> None:
    config = tiny_config(Path("set"))
    folder.write_config(config)
    assert folder.read_config() == config
    assert load_config(folder.path / "pipeline.yaml", PipelineConfig) == config.pipeline


def test_a_state_reads_back_as_it_was(folder: RunFolder) -> None:
    assert not folder.has_state
    state = {
        "iteration": 3,
        "config": {},
        "data": "",
        "model": {"weight": torch.rand(2)},
        "best_ap": float("-inf"),
    }
    folder.write_state(state)
    assert folder.has_state
    read = folder.read_state()
    assert read["iteration"] == 3
    assert torch.equal(read["model"]["weight"], state["model"]["weight"])  # type: ignore[index]


def test_nothing_in_a_state_is_executed(folder: RunFolder, tmp_path: Path) -> None:
    mark = tmp_path / "executed"

    class Hostile:
        def __reduce__(self) -> object:
            return (Path.touch, (mark,))

    (folder.path / "state.pt").write_bytes(pickle.dumps({"iteration": 1, "model": Hostile()}))
    with pytest.raises(WeightsError, match="damaged or no state of a run"):
        folder.read_state()
    torch.save({"iteration": 1, "model": Hostile()}, folder.path / "state.pt")
    with pytest.raises(WeightsError, match="damaged or no state of a run"):
        folder.read_state()
    assert not mark.exists()


def test_a_file_of_another_kind_is_no_state(folder: RunFolder) -> None:
    torch.save({"weight": torch.zeros(1)}, folder.path / "state.pt")
    with pytest.raises(WeightsError, match="is no state of a run"):
        folder.read_state()


def test_the_log_is_cut_where_a_run_resumes(folder: RunFolder) -> None:
    for iteration in (1, 2, 3):
        folder.append_log({"iteration": iteration, "total": 1.5})
    with (folder.path / "log.jsonl").open("a") as file:
        file.write('{"iteration": 4, "tot')  # the process died here
    folder.cut_log(2)
    assert folder.read_log() == [{"iteration": 1, "total": 1.5}, {"iteration": 2, "total": 1.5}]


def test_a_folder_without_a_log_has_an_empty_one(folder: RunFolder) -> None:
    assert folder.read_log() == []
    folder.cut_log(0)
    assert folder.read_log() == []


def test_a_run_that_starts_anew_starts_an_empty_log(folder: RunFolder) -> None:
    folder.append_log({"iteration": 0, "AP": 0.0})
    folder.cut_log(None)
    assert folder.read_log() == []
