from __future__ import annotations

import stat
from pathlib import Path

import pytest

from calibnet_core.files import atomic_folder, atomic_write


def test_bytes_and_text_arrive_as_written(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "data.bin") as file:
        file.write(b"\x00\r\n\xff")
    with atomic_write(tmp_path / "text.txt", "w") as file:
        file.write("Größe 1 µm\r\n")
    assert (tmp_path / "data.bin").read_bytes() == b"\x00\r\n\xff"
    assert (tmp_path / "text.txt").read_bytes() == "Größe 1 µm\r\n".encode()


def test_the_target_shows_its_old_content_until_the_end(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    with atomic_write(target) as file:
        file.write(b"new")
        file.flush()
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path, error: type) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")

    def write_half() -> None:
        with atomic_write(target) as file:
            file.write(b"half")
            raise error("stop")

    with pytest.raises(error):
        write_half()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_name_of_the_longest_possible_length_can_be_written(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 255)
    with atomic_write(target) as file:
        file.write(b"x")
    assert target.read_bytes() == b"x"


def test_a_symbolic_link_stays_and_its_target_changes(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    with atomic_write(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with atomic_write(tmp_path / "atomic") as file:
        file.write(b"x")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "atomic")]
    assert modes[0] == modes[1]


def test_impossible_targets_raise_os_errors(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="give the name of a file"), atomic_write(tmp_path):
        pass
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "missing" / "file"):
        pass


def test_a_folder_appears_complete_under_its_name(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "deep" / "result") as folder:
        assert folder.name == "result"
        folder.mkdir()
        (folder / "inside").write_text("x")
        assert not (tmp_path / "deep" / "result").exists()
    assert (tmp_path / "deep" / "result" / "inside").read_text() == "x"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["result"]


def test_a_folder_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fill_half() -> None:
        with atomic_folder(tmp_path / "result") as folder:
            folder.mkdir()
            (folder / "inside").write_text("x")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fill_half()
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "result").mkdir()
    with pytest.raises(FileExistsError, match="exists already"), atomic_folder(tmp_path / "result"):
        pass
