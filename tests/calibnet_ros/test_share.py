import sys
from pathlib import Path

import pytest

from calibnet_ros import share


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An environment with nothing installed and no ament index."""
    prefix = tmp_path / "environment"
    prefix.mkdir()
    monkeypatch.setattr(sys, "prefix", str(prefix))
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    return prefix


def install(prefix: Path, relative: str) -> Path:
    path = prefix / "share" / share.PACKAGE / relative
    path.parent.mkdir(parents=True)
    path.touch()
    return path


def add_to_ament_index(prefix: Path) -> None:
    marker = prefix / "share/ament_index/resource_index/packages" / share.PACKAGE
    marker.parent.mkdir(parents=True)
    marker.touch()


def test_the_ament_index_comes_before_the_environment(environment, monkeypatch, tmp_path):
    pytest.importorskip("ament_index_python", reason="the ament index is not installed")
    workspace = tmp_path / "workspace"
    add_to_ament_index(workspace)
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(workspace))
    install(environment, "config/a.yaml")
    expected = install(workspace, "config/a.yaml")
    assert share.share_path("config/a.yaml") == expected


def test_a_file_the_index_lacks_is_found_in_the_environment(environment, monkeypatch, tmp_path):
    workspace = tmp_path / "workspace"
    add_to_ament_index(workspace)
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(workspace))
    expected = install(environment, "config/a.yaml")
    assert share.share_path("config/a.yaml") == expected


def test_a_package_missing_from_the_index_is_found_in_the_environment(
    environment, monkeypatch, tmp_path
):
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    expected = install(environment, "config/a.yaml")
    assert share.share_path(Path("config/a.yaml")) == expected


def test_without_ament_the_environment_is_searched(environment, monkeypatch):
    monkeypatch.setitem(sys.modules, "ament_index_python.packages", None)
    expected = install(environment, "config/a.yaml")
    assert share.share_path("config/a.yaml") == expected


def test_the_source_tree_comes_last(environment, monkeypatch, tmp_path):
    (tmp_path / "package.xml").touch()
    (tmp_path / "config").mkdir()
    monkeypatch.setattr(share, "__file__", str(tmp_path / share.PACKAGE / "share.py"))
    assert share.share_path("config") == tmp_path / "config"
    expected = install(environment, "config/a.yaml").parent
    assert share.share_path("config") == expected


def test_site_packages_is_not_taken_for_a_source_tree(environment, monkeypatch, tmp_path):
    (tmp_path / "config").mkdir()  # somebody else's
    monkeypatch.setattr(share, "__file__", str(tmp_path / share.PACKAGE / "share.py"))
    with pytest.raises(FileNotFoundError):
        share.share_path("config")


def test_the_error_names_the_file_and_the_places(environment):
    with pytest.raises(FileNotFoundError) as error:
        share.share_path("config/missing.yaml")
    assert "'config/missing.yaml'" in str(error.value)
    assert str(environment / "share" / share.PACKAGE) in str(error.value)


def test_both_middleware_profiles_are_shared():
    for name in ("fastdds_profile.xml", "fastdds_profile_loopback.xml"):
        assert share.share_path(f"config/{name}").is_file()
