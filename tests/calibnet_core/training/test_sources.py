from __future__ import annotations

import json
from pathlib import Path

import pytest

from calibnet_core.config import ConfigError
from calibnet_core.data.datasets import DatasetError
from calibnet_core.training.config import DataConfig
from calibnet_core.training.sources import open_training_sets
from tests.support.datasets import write_rendered_set


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    home = tmp_path_factory.mktemp("sets")
    return [str(write_rendered_set(home / name, 3, seed=s)) for name, s in (("a", 0), ("b", 9))]


def without_objects(folder: Path, image_id: int) -> None:
    path = folder / "annotations.json"
    document = json.loads(path.read_text())
    kept = [a for a in document["annotations"] if a["image_id"] != image_id]
    path.write_text(json.dumps({**document, "annotations": kept}))


def test_several_sets_become_one_with_scenes_of_their_own(folders: list[str]) -> None:
    sets = open_training_sets(DataConfig(train=tuple(folders)))
    assert len(sets.train) == 6
    assert len(sets.train.scenes) == 6  # both have a "table 0"
    assert sets.validation is None


def test_scenes_are_held_out_for_validation(folders: list[str]) -> None:
    sets = open_training_sets(DataConfig(train=tuple(folders), hold_out=0.34))
    assert sets.validation is not None
    assert (len(sets.train), len(sets.validation)) == (4, 2)
    assert not set(sets.train.scenes) & set(sets.validation.scenes)


def test_a_set_of_its_own_validates(folders: list[str]) -> None:
    sets = open_training_sets(DataConfig(train=(folders[0],), validation=folders[1]))
    assert sets.validation is not None
    assert (len(sets.train), len(sets.validation)) == (3, 3)


def test_images_without_instances_are_left_out_and_counted(tmp_path: Path) -> None:
    folder = write_rendered_set(tmp_path / "set", 3)
    without_objects(folder, 2)
    sets = open_training_sets(DataConfig(train=(str(folder),)))
    assert len(sets.train) == 2
    assert sets.notes == ("1 images without instances are left out",)
    assert len(open_training_sets(DataConfig(train=(str(folder),), skip_empty=False)).train) == 3


def test_a_set_without_any_instance_is_refused(tmp_path: Path) -> None:
    folder = write_rendered_set(tmp_path / "set", 1)
    without_objects(folder, 1)
    with pytest.raises(ConfigError, match="no image has an instance"):
        open_training_sets(DataConfig(train=(str(folder),)))


def test_faulty_images_are_refused_or_left_out_by_name(tmp_path: Path) -> None:
    folder = write_rendered_set(tmp_path / "set", 2)
    (folder / "depths" / "table_001.png").unlink()
    with pytest.raises(DatasetError, match=r"table_001\.png"):
        open_training_sets(DataConfig(train=(str(folder),)))
    sets = open_training_sets(DataConfig(train=(str(folder),), skip_faulty=True))
    assert len(sets.train) == 1
    assert "table_001.png" in sets.notes[0]


def test_faults_of_the_validation_set_are_named_too(folders: list[str], tmp_path: Path) -> None:
    folder = write_rendered_set(tmp_path / "set", 2)
    (folder / "depths" / "table_001.png").unlink()
    config = DataConfig(train=(folders[0],), validation=str(folder), skip_faulty=True)
    (note,) = open_training_sets(config).notes
    assert note.startswith("validation: ")
    assert "table_001.png" in note


def test_a_digest_tells_images_and_labels_apart(folders: list[str], tmp_path: Path) -> None:
    one = open_training_sets(DataConfig(train=(folders[0],))).digest
    assert one == open_training_sets(DataConfig(train=(folders[0],))).digest
    assert one != open_training_sets(DataConfig(train=(folders[1],))).digest
    assert one != open_training_sets(DataConfig(train=(folders[0],), hold_out=0.34)).digest


def test_naming_no_set_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"data\.train names no set"):
        open_training_sets(DataConfig())
