"""Parameters from the files that drive the node, so that one file drives both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from calibnet_core.config import ConfigError
from calibnet_ros.parameter_schema import DEFAULTS, SCHEMA, Value, Values
from calibnet_ros.parameters import check_values

_ROWS = {row.name: row for row in SCHEMA}
# Every ROS node knows these; they are no business of an evaluation.
_OF_EVERY_NODE = ("use_sim_time", "start_type_description_service", "qos_overrides.")


def read_yaml(path: str | Path) -> Any:
    """The plain values of a YAML file; nothing in it is executed.

    Raises:
        ConfigError: it cannot be read or is no YAML.
    """
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not valid YAML: {error}") from error


def node_values(
    files: Sequence[str | Path] = (),
    changes: Mapping[str, Value] | None = None,
    *,
    node_name: str = "calibnet",
) -> Values:
    """Every parameter of the node: defaults, then files, then changes.

    Args:
        files: ROS parameter files. Sections of other nodes are passed over.
        changes: by name; they win.
        node_name: whose sections to take beside those of all nodes.

    Raises:
        ConfigError: a file is wrong, a name is unknown, or a value has the wrong type or range.
    """
    values = dict(DEFAULTS)
    for path in files:
        for name, value in _parameters(read_yaml(path), node_name, str(path)):
            _set(values, name, value, str(path))
    for name, value in (changes or {}).items():
        _set(values, name, value, "command line")
    if refusal := check_values(values):
        raise ConfigError(refusal)
    return values


def parse_assignment(text: str) -> tuple[str, Value]:
    """Split `name:=value`, as ROS command lines have it; the value is read as YAML.

    Raises:
        ValueError: it is none.
    """
    name, separator, value = text.partition(":=")
    if not separator or not name:
        raise ValueError(f"'{text}' is no assignment; write name:=value")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError(f"'{text}' has a value that is no YAML; put it in quotes") from error


def _parameters(document: Any, node_name: str, where: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(document, dict):
        raise ConfigError(f"{where}: holds no parameters; begin with '/**:' and 'ros__parameters:'")
    # What is said of all nodes comes first, so that what is said of one wins.
    sections = sorted(document, key=lambda key: "*" not in str(key))
    for key in sections:
        if str(key).rstrip("/").rpartition("/")[2] not in (node_name, "*", "**"):
            continue
        section = document[key]
        found = section.get("ros__parameters") if isinstance(section, dict) else None
        if not isinstance(found, dict):
            raise ConfigError(f"{where}: '{key}' has no 'ros__parameters' with names and values")
        yield from _flat(found, "")


def _flat(mapping: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in mapping.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _flat(value, f"{name}.")
        else:
            yield name, value


def _set(values: dict[str, Value], name: str, value: Any, where: str) -> None:
    if name.startswith(_OF_EVERY_NODE):
        return
    if name not in _ROWS:
        raise ConfigError(
            f"{where}: the node has no parameter '{name}'; `perception_node --parameters` lists all"
        )
    wanted = _ROWS[name].default
    if type(value) is not type(wanted):
        hint = " (write 1.0, not 1)" if isinstance(wanted, float) else ""
        raise ConfigError(
            f"{where}: {name} is {value!r} of type {type(value).__name__}; expected "
            f"{type(wanted).__name__}{hint}"
        )
    values[name] = value
