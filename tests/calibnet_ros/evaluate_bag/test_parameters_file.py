"""Parameter files, as the node takes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from calibnet_core.config import ConfigError
from calibnet_ros.evaluate_bag.parameters_file import node_values, parse_assignment
from calibnet_ros.parameter_schema import DEFAULTS
from tests.support.shared import REPOSITORY

pytestmark = pytest.mark.ros


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_the_package_own_file_is_read() -> None:
    values = node_values([REPOSITORY / "config/perception.yaml"])
    assert values.keys() == DEFAULTS.keys()


def test_what_is_said_of_the_node_wins_over_what_is_said_of_all(tmp_path: Path) -> None:
    path = write(
        tmp_path / "p.yaml",
        """
/robot/calibnet:
  ros__parameters: {sync.queue: 9, detection: {min_area: 5}, use_sim_time: true}
/**:
  ros__parameters: {sync.queue: 7, sync.mode: exact}
other_node:
  ros__parameters: {sync.queue: 3, whatever: 1}
""",
    )
    values = node_values([path], {"sync.mode": "latest"})
    assert (values["sync.queue"], values["detection.min_area"]) == (9, 5)
    assert values["sync.mode"] == "latest"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/**: {ros__parameters: {sync.length: 3}}", "no parameter 'sync.length'"),
        ("/**: {ros__parameters: {sync.queue: three}}", "'three' of type str; expected int"),
        ("/**: {ros__parameters: {depth.min: 1}}", "expected float .write 1.0, not 1"),
        ("/**: {ros__parameters: {autostart: 1}}", "expected bool"),
        ("/**: {ros__parameters: {sync.queue: 99}}", "sync.queue is 99; choose 1 to 30"),
        ("/**: {sync.queue: 3}", "has no 'ros__parameters'"),
        ("- 1", "holds no parameters"),
        ("a: [", "is not valid YAML"),
        ("a: !!python/object/apply:os.system ['true']", "is not valid YAML"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        node_values([write(tmp_path / "p.yaml", text)])


def test_assignments_are_read_as_yaml() -> None:
    assert parse_assignment("depth.max:=3.5") == ("depth.max", 3.5)
    assert parse_assignment("geometry.enable:=false") == ("geometry.enable", False)
    for text in ("depth.max=3", ":=3", "a:=[1"):
        with pytest.raises(ValueError, match=r"assignment|no YAML"):
            parse_assignment(text)
