from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from calibnet_core.training.monitor import Monitor
from calibnet_core.training.run_folder import RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def events(folder: RunFolder) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder.path))
    accumulator.Reload()
    return accumulator


def test_figures_go_to_the_log_to_tensorboard_and_to_a_file(folder: RunFolder) -> None:
    text = io.StringIO()
    monitor = Monitor(folder, console=Console(file=text, width=200))
    with monitor.progress(0, 2):
        monitor.log(1, {"total": 2.5})
        monitor.advance(2.5)
        monitor.log(2, {"AP": 33.0})
    assert folder.read_log() == [{"iteration": 1, "total": 2.5}, {"iteration": 2, "AP": 33.0}]
    assert [(e.step, e.value) for e in events(folder).Scalars("total")] == [(1, 2.5)]
    assert "total 2.5" in text.getvalue()
    assert "AP 33" in text.getvalue()


def test_a_terminal_shows_a_bar_and_only_figures_worth_a_line(folder: RunFolder) -> None:
    text = io.StringIO()
    console = Console(file=text, width=200, force_terminal=True, highlight=False)
    monitor = Monitor(folder, console=console)
    with monitor.progress(0, 2):
        monitor.log(1, {"total": 2.5})
        monitor.advance(2.5)
        monitor.log(1, {"AP": 33.0})
    assert "1/2" in text.getvalue()
    assert "loss 2.500" in text.getvalue()
    assert "total 2.5" not in text.getvalue()
    assert "AP 33" in text.getvalue()


def test_pictures_are_kept(folder: RunFolder) -> None:
    sheet = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    monitor = Monitor(folder, console=Console(file=io.StringIO()))
    with monitor.progress(0, 1):
        monitor.pictures(7, sheet)
        monitor.pictures(8, None)
    (path,) = folder.samples.iterdir()
    assert path.name == "0000007.png"
    np.testing.assert_array_equal(np.asarray(Image.open(path)), sheet)
    assert [e.step for e in events(folder).Images("samples")] == [7]


def test_a_silent_monitor_keeps_nothing(folder: RunFolder) -> None:
    text = io.StringIO()
    monitor = Monitor(folder, is_silent=True, console=Console(file=text))
    with monitor.progress(0, 1):
        monitor.say("hello")
        monitor.log(1, {"total": 1.0})
        monitor.advance(1.0)
        monitor.pictures(1, np.zeros((4, 4, 3), np.uint8))
    assert text.getvalue() == ""
    assert list(folder.path.iterdir()) == []
