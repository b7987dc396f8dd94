"""The table of parameters."""

from __future__ import annotations

import itertools
import math
from dataclasses import fields

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter

from calibnet_core.config import ConfigError, InferenceConfig
from calibnet_core.perception.mask_codec import MaskEncoding
from calibnet_ros.parameters import (
    SCHEMA,
    check_values,
    declare_parameters,
    markdown_table,
    mask_encoding,
    pairer_config,
    pipeline_config,
    read_parameters,
    with_dynamic_values,
)

pytestmark = pytest.mark.ros

DEFAULTS = {row.name: row.default for row in SCHEMA}
numbers = itertools.count()


@pytest.fixture(scope="module")
def context():
    context = rclpy.Context()
    rclpy.init(context=context)
    yield context
    rclpy.shutdown(context=context)


@pytest.fixture
def make_node(context):
    nodes = []

    def make(**overrides):
        given = [Parameter(name.replace("__", "."), value=v) for name, v in overrides.items()]
        node = Node(f"node{next(numbers)}", context=context, parameter_overrides=given)
        nodes.append(node)
        declare_parameters(node)
        return node

    yield make
    for node in nodes:
        node.destroy_node()


def test_names_are_unique_and_defaults_are_allowed():
    assert len(DEFAULTS) == len(SCHEMA)
    assert check_values(DEFAULTS) is None


@pytest.mark.parametrize("row", SCHEMA, ids=lambda row: row.name)
def test_a_row_allows_what_it_documents_and_nothing_else(row):
    assert row.help.endswith(".")
    assert row.refusal(row.default) is None
    if row.choices:
        assert all(row.refusal(choice) is None for choice in row.choices)
        refusal = row.refusal("no such choice")
        assert row.name in refusal
        assert all(choice in refusal for choice in row.choices)
    elif isinstance(row.default, (int, float)) and not isinstance(row.default, bool):
        kind = type(row.default)
        assert row.refusal(kind(row.lowest)) is None
        assert row.refusal(kind(row.highest)) is None
        for value in (row.lowest - 1, row.highest + 1, math.nan, math.inf):
            assert row.name in row.refusal(value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"depth.min": 5.0, "depth.max": 5.0}, ["depth.min", "depth.max"]),
        ({"sync.tolerance": 0.0004}, ["sync.tolerance", "0.0005"]),
        ({"sync.mode": "perhaps"}, ["sync.mode"]),
    ],
)
def test_values_that_do_not_go_together_are_refused_with_a_reason(values, words):
    refusal = check_values({**DEFAULTS, **values})
    assert [word for word in words if word not in refusal] == []


def test_a_node_declares_and_reads_every_row(make_node):
    node = make_node()
    assert read_parameters(node) == DEFAULTS


def test_overrides_at_launch_are_read(make_node):
    values = read_parameters(make_node(depth__min=0.3, sync__mode="exact"))
    assert (values["depth.min"], values["sync.mode"]) == (0.3, "exact")


@pytest.mark.parametrize("override", [{"depth__min": -1.0}, {"depth__min": 1}])
def test_an_override_of_a_wrong_range_or_type_is_refused_with_its_name(make_node, override):
    with pytest.raises(ParameterException, match=r"depth\.min"):
        make_node(**override)


def test_setting_several_values_checks_them_together(make_node):
    node = make_node()
    both = [Parameter("depth.min", value=20.0), Parameter("depth.max", value=30.0)]
    assert [result.successful for result in node.set_parameters(both)] == [False, True]
    assert node.set_parameters_atomically(both).successful


def test_a_parameter_of_another_part_of_the_node_is_none_of_the_tables_business(make_node):
    node = make_node()
    node.declare_parameter("someone.elses", 1)
    assert node.set_parameters([Parameter("someone.elses", value=2)])[0].successful


def test_settings_reach_the_pipeline():
    values = {
        **DEFAULTS,
        "detection.score_threshold": 0.25,
        "detection.mask_threshold": 0.75,
        "detection.max_instances": 3,
        "detection.min_area": 9,
        "depth.min": 0.5,
        "depth.max": 4.0,
    }
    config = pipeline_config(values)
    inference = config.inference
    assert (inference.score_threshold, inference.mask_threshold) == (0.25, 0.75)
    assert (inference.max_instances, inference.min_area) == (3, 9)
    assert (config.depth.min_m, config.depth.max_m) == (0.5, 4.0)


def test_a_configuration_file_keeps_what_no_parameter_names(tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text(
        "input: {shortest_edge: 64, longest_edge: 96}\n"
        "depth: {near_is_bright: false, min_m: 0.7}\n"
        "inference: {rescore_before_threshold: false, score_threshold: 0.9}\n"
    )
    config = pipeline_config({**DEFAULTS, "model.config": str(path)})
    assert (config.input.shortest_edge, config.input.longest_edge) == (64, 96)
    assert not config.depth.near_is_bright
    assert config.depth.min_m == DEFAULTS["depth.min"]  # the parameter wins
    assert config.inference.score_threshold == DEFAULTS["detection.score_threshold"]
    assert not config.inference.rescore_before_threshold
    later = with_dynamic_values(config, {**DEFAULTS, "depth.max": 3.0})
    assert later.depth.max_m == 3.0
    assert later.inference == config.inference
    assert later.input == config.input


def test_a_missing_configuration_file_is_told():
    with pytest.raises(ConfigError, match=r"/nowhere\.yaml"):
        pipeline_config({**DEFAULTS, "model.config": "/nowhere.yaml"})


def test_settings_reach_the_pairer():
    values = {
        **DEFAULTS,
        "sync.mode": "latest",
        "sync.tolerance": 0.01,
        "sync.queue": 9,
        "sync.reset_on_backward_jump": 2.0,
    }
    config = pairer_config(values)
    assert (config.mode, config.tolerance_s, config.queue) == ("latest", 0.01, 9)
    assert config.reset_on_backward_jump_s == 2.0
    assert pairer_config({**DEFAULTS, "sync.mode": "approximate"}).mode == "nearest"


def test_every_choice_of_mask_encoding_is_one():
    row = next(row for row in SCHEMA if row.name == "output.mask_encoding")
    found = {mask_encoding({"output.mask_encoding": choice}) for choice in row.choices}
    assert found == set(MaskEncoding)


def test_the_defaults_are_those_of_the_library():
    library = InferenceConfig()
    for field, name in {
        "score_threshold": "detection.score_threshold",
        "mask_threshold": "detection.mask_threshold",
        "max_instances": "detection.max_instances",
        "min_area": "detection.min_area",
    }.items():
        assert field in {entry.name for entry in fields(library)}
        assert getattr(library, field) == DEFAULTS[name]


def test_the_table_for_the_documentation_lists_every_row():
    lines = markdown_table().splitlines()
    assert len(lines) == len(SCHEMA) + 2
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert {len(row) for row in cells} == {6}
    assert [row[0] for row in cells[2:]] == [f"`{row.name}`" for row in SCHEMA]
    by_name = {row[0].strip("`"): row for row in cells[2:]}
    assert by_name["detection.score_threshold"][1:5] == ["float", "0.5", "0 to 1", "any time"]
    assert by_name["sync.mode"][1:4] == ["str", '"nearest"', "exact, nearest, latest, approximate"]
    assert by_name["autostart"][1:5] == ["bool", "true", "", "only at launch"]
