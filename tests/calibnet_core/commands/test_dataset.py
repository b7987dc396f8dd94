from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from calibnet_core import cli
from calibnet_core.data.datasets import open_dataset
from tests.calibnet_core.data.datasets.folders import color, depth, document, save, write_set


def dataset(*arguments: object) -> int:
    return cli.main(["dataset", *(str(argument) for argument in arguments)])


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    return write_set(tmp_path / "desk")


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    content = document()
    content["annotations"][1]["category_id"] = 5
    folder = write_set(tmp_path / "faulty", content)
    (folder / "imgs" / "3.png").write_bytes(b"x")
    # So that the pictures are not those of the other set.
    save(folder / "imgs" / "1.png", color(91))
    save(folder / "imgs" / "2.png", color(92))
    return folder


def test_a_sound_set_passes_the_check(desk: Path, capsys) -> None:
    assert dataset("check", desk) == 0
    printed = capsys.readouterr().out
    assert "desk" in printed
    assert "error " not in printed


def test_every_fault_is_printed_below_its_file(desk: Path, faulty: Path, capsys) -> None:
    assert dataset("check", desk, faulty) == 1
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    place = lines.index(str(faulty / "annotations.json"))
    assert lines[place + 1].split(maxsplit=3)[:3] == ["error", "annotation", "20"]
    assert lines[place + 1].endswith(
        "has category 5, which is not among [1]; correct it or add the category"
    )
    place = lines.index(str(faulty / "imgs" / "3.png"))
    assert lines[place + 1].endswith("is no image; give a PNG, JPEG or TIFF file")


def test_faults_are_written_as_json(desk: Path, faulty: Path, tmp_path: Path) -> None:
    assert dataset("check", desk, faulty, "--output", tmp_path / "faults.json") == 1
    sound, bad = json.loads((tmp_path / "faults.json").read_text())["sets"]
    assert (sound["name"], sound["faults"]) == ("desk", [])
    assert [fault["where"] for fault in bad["faults"]] == ["annotation 20", "image 3"]


def test_warnings_fail_only_where_asked(desk: Path) -> None:
    save(desk / "imgs" / "3.png", color(1))
    assert dataset("check", desk) == 0
    assert dataset("check", desk, "--strict") == 1


def test_markup_in_file_names_is_printed_as_it_is(tmp_path: Path, capsys) -> None:
    content = document()
    content["images"][1]["file_name"] = "[red]x[/].png"
    assert dataset("check", write_set(tmp_path, content)) == 1
    assert "[red]x[/].png is not there" in capsys.readouterr().out


def test_a_check_of_what_is_not_there_fails(tmp_path: Path, capsys) -> None:
    assert dataset("check", tmp_path / "nowhere") == 1
    assert "there is no such file or folder" in capsys.readouterr().out


def test_statistics_of_two_sets_are_drawn_side_by_side(desk: Path, tmp_path: Path, capsys) -> None:
    pytest.importorskip("matplotlib")
    other = write_set(tmp_path / "hall", num_images=2)
    for number in (1, 2):
        save(tmp_path / "gts" / f"{number}.png", np.eye(12, 16, dtype=np.uint8) * 255)
    out = tmp_path / "out" / "stats"
    assert dataset(
        "stats", desk, other, "--output", out, "--regions", "none", "--regions", tmp_path / "gts"
    ) == 0  # fmt: skip
    assert sorted(path.name for path in out.iterdir()) == [
        "center_bias.png",
        "consistency.png",
        "instance_counts.png",
        "instance_sizes.png",
        "statistics.json",
    ]
    first, second = json.loads((out / "statistics.json").read_text())["sets"]
    assert (first["name"], first["images"], second["images"]) == ("desk", 3, 2)
    assert first["object_instance_iou"] is None
    assert second["object_instance_iou"]["images"] == 2
    assert str(out / "statistics.json") in capsys.readouterr().out


def test_statistics_of_a_faulty_set_tell_what_is_left_out(
    faulty: Path, tmp_path: Path, capsys
) -> None:
    pytest.importorskip("matplotlib")
    assert dataset("stats", faulty, "--output", tmp_path / "out") == 1
    printed = capsys.readouterr().out
    assert "has category 5" in printed
    assert "is no image" in printed
    assert "2 faults above; what they concern is left out" in printed
    (stored,) = json.loads((tmp_path / "out" / "statistics.json").read_text())["sets"]
    assert (stored["images"], len(stored["left_out"])) == (1, 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--regions", "gts"], "1 folders of region labels for 2 sets"),
        (["--regions", "none", "--regions", "gts"], "gts: is no folder"),
    ],
)
def test_region_folders_must_fit_the_sets(
    desk: Path, tmp_path: Path, capsys, arguments: list[str], words: str
) -> None:
    pytest.importorskip("matplotlib")
    assert dataset("stats", desk, desk, "--output", tmp_path / "out", *arguments) == 2
    assert words in capsys.readouterr().err


def test_statistics_without_matplotlib_say_what_to_install(
    desk: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert dataset("stats", desk, "--output", tmp_path / "out") == 2
    assert "pip install matplotlib" in capsys.readouterr().err


def test_without_readable_images_there_are_no_statistics(
    desk: Path, tmp_path: Path, capsys
) -> None:
    pytest.importorskip("matplotlib")
    for number in (1, 2, 3):
        (desk / "imgs" / f"{number}.png").write_bytes(b"x")
    assert dataset("stats", desk, "--output", tmp_path / "out") == 2
    assert "desk: not one image could be read" in capsys.readouterr().err


@pytest.fixture
def material(tmp_path: Path) -> Path:
    labels = np.zeros((12, 16), np.uint8)
    labels[2:6, 2:6], labels[8:11, 9:14] = 1, 2
    for name in ("cup_1", "cup_2"):
        save(tmp_path / "rgb" / f"{name}.png", color(len(name) + int(name[-1])))
        save(tmp_path / "depth" / f"{name}.png", depth())
        save(tmp_path / "anna" / f"{name}.png", labels)
        save(tmp_path / "ben" / f"{name}.png", np.where(labels == 1, labels, 0).astype(np.uint8))
        save(tmp_path / "gts" / f"{name}.png", labels)
    return tmp_path


def build(material: Path, *more: object) -> int:
    return dataset(
        "build", "--images", material / "rgb", "--depth", material / "depth",
        "--masks", material / "anna", "--masks", material / "ben",
        "--output", material / "set", *more,
    )  # fmt: skip


def test_a_set_is_built_and_passes_the_check(material: Path, capsys) -> None:
    assert build(material, "--scene-pattern", "^[a-z]+", "--depth-scale-m", 0.0005) == 0
    printed = capsys.readouterr().out
    value = f"({material / 'anna' / 'cup_1.png'}, value 2)"
    assert f"dropped from cup_1: only 1 of 2 annotators marked it {value}" in printed
    assert "2 no majority" in printed
    built = open_dataset(material / "set")
    assert built.scenes == ("cup",)
    assert built.records[0].pair.depth_scale_m == 0.0005
    assert dataset("check", material / "set", "--strict") == 0


def test_instances_outside_the_regions_are_told(material: Path, capsys) -> None:
    assert build(material, "--regions", material / "gts", "--min-inside", 0.9) == 0
    save(material / "gts" / "cup_1.png", np.zeros((12, 16), np.uint8))
    (material / "set").rename(material / "earlier")
    capsys.readouterr()
    assert build(material, "--regions", material / "gts") == 0
    printed = capsys.readouterr().out
    assert "0.0% of it lies inside the region label" in printed
    assert "left out cup_1: objects were marked in it, but none of them was kept" in printed


def test_long_lists_end_with_a_count(material: Path, capsys) -> None:
    labels = np.zeros((12, 16), np.uint8)
    labels[::2, ::4] = np.arange(1, 25).reshape(6, 4)
    save(material / "ben" / "cup_1.png", labels)
    assert build(material) == 0
    printed = capsys.readouterr().out
    assert printed.count("dropped from") == 20
    assert f"more in {material / 'set' / 'report.json'}" in printed


def test_images_with_faults_are_left_out_and_told(material: Path, capsys) -> None:
    (material / "depth" / "cup_2.png").unlink()
    assert build(material) == 1
    assert "there is no depth image of that name" in capsys.readouterr().out
    assert len(open_dataset(material / "set")) == 1


def test_an_existing_folder_is_refused(material: Path, capsys) -> None:
    (material / "set").mkdir()
    assert build(material) == 2
    assert "exists already; choose another name" in capsys.readouterr().err


def test_rules_out_of_range_are_refused(material: Path, capsys) -> None:
    assert build(material, "--min-iou", 3) == 2
    assert "min_iou is 3.0" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [[], ["dance"], ["check"], ["check", "x", "--workers", "0"], ["stats", "x"]]
)
def test_wrong_usage_ends_with_code_2(arguments: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        dataset(*arguments)
    assert caught.value.code == 2
    assert "usage: calibnet dataset" in capsys.readouterr().err
