from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("mujoco", reason="mujoco is not installed")

from calibnet_core import cli
from calibnet_core.data.bags import read_labels
from calibnet_core.data.datasets import open_dataset
from tests.support.shared import REPOSITORY

WITHOUT_MUJOCO = """
import sys
sys.modules["mujoco"] = None
from calibnet_core import cli
sys.exit(cli.main(["scenes", "render", sys.argv[1]]))
"""


def scenes(*arguments: object) -> int:
    return cli.main(["scenes", *(str(argument) for argument in arguments)])


def test_render_writes_the_pictures_that_were_asked_for(tmp_path, capsys) -> None:
    options = ("--count", 2, "--size", 48, 64, "--seed", 3, "--first", 7, "--workers", 1)
    assert scenes("render", tmp_path / "set", *options) == 0
    assert "2 scenes in" in capsys.readouterr().out
    dataset = open_dataset(tmp_path / "set")
    assert [record.size for record in dataset.records] == [(48, 64)] * 2
    assert [record.scene for record in dataset.records] == ["scene_3_000007", "scene_3_000008"]


def test_film_writes_a_recording_with_labels(tmp_path, capsys) -> None:
    options = ("--frames", 3, "--size", 48, 64, "--seed", 1, "--scene", 2, "--rate", 10)
    assert scenes("film", tmp_path / "film", *options) == 0
    assert "3 frames in" in capsys.readouterr().out
    stamps_ns, labels = zip(*read_labels(tmp_path / "film"), strict=True)
    np.testing.assert_array_equal(np.diff(stamps_ns), [100_000_000] * 2)
    assert all(label.any() for label in labels)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("render", "--size", 4, 4), "scene size is"),
        (("render", "--first", -1), "choose at least one scene"),
        (("film", "--rate", 0), "cannot film"),
    ],
)
def test_a_value_out_of_range_is_told_and_leaves_nothing(tmp_path, capsys, options, words) -> None:
    action, *others = options
    assert scenes(action, tmp_path / "out", *others) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_without_mujoco_the_user_is_told_what_to_install(tmp_path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_MUJOCO, str(tmp_path / "set")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "pip install calibnet_ros[scenes]" in ended.stderr
    assert "Traceback" not in ended.stderr
