"""The table of parameters."""

from __future__ import annotations

import itertools
import math
from dataclasses import fields

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter

from calibnet_core.config import (
    ConfigError,
    DepthConfig,
    InferenceConfig,
    InputConfig,
    PipelineConfig,
)
from calibnet_core.perception.geometry import GeometrySettings
from calibnet_core.perception.intake import IntakeSettings
from calibnet_core.perception.mask_codec import MaskEncoding
from calibnet_core.perception.tracking import TrackingSettings
from calibnet_ros.command import main
from calibnet_ros.messages import OutputOptions
from calibnet_ros.parameter_schema import DEFAULTS, SCHEMA, Change, documentation, markdown_table
from calibnet_ros.parameters import (
    camera_names,
    check_values,
    declare_parameters,
    dynamic_values,
    intake_settings,
    output_options,
    pipeline_config,
    processor_settings,
    read_parameters,
    with_dynamic_values,
)
from tests.support.shared import REPOSITORY

pytestmark = pytest.mark.ros

numbers = itertools.count()


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
        ({"cameras": ["left", "left"]}, ["cameras", "left", "twice"]),
        ({"cameras": ["left", "my camera"]}, ["cameras", "'my camera'"]),
        ({"model.input_height": 40}, ["model.input_height", "40", "multiple of 32"]),
        ({"model.input_width": 32}, ["model.input_width", "32", "64"]),
        ({"geometry.box_up_axis": "gravity"}, ["geometry.box_up_axis", "output.frame"]),
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
        "detection.min_piece": 0.125,
        "depth.min": 0.5,
        "depth.max": 4.0,
    }
    config = pipeline_config(values)
    inference = config.inference
    assert (inference.score_threshold, inference.mask_threshold) == (0.25, 0.75)
    assert (inference.max_instances, inference.min_area, inference.min_piece) == (3, 9, 0.125)
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


def test_what_a_configuration_file_leaves_out_is_as_the_weights_say(tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text("input: {longest_edge: 160}\n")
    stored = PipelineConfig(
        input=InputConfig(shortest_edge=96, longest_edge=128),
        depth=DepthConfig(near_is_bright=False),
    )
    config = pipeline_config({**DEFAULTS, "model.config": str(path)}, stored)
    assert (config.input.shortest_edge, config.input.longest_edge) == (96, 160)
    assert not config.depth.near_is_bright


def test_a_missing_configuration_file_is_told():
    with pytest.raises(ConfigError, match=r"/nowhere\.yaml"):
        pipeline_config({**DEFAULTS, "model.config": "/nowhere.yaml"})


def test_without_a_file_the_settings_that_the_weights_bring_hold():
    """Weights know their input size and depth picture; parameters still win."""
    stored = PipelineConfig(
        input=InputConfig(shortest_edge=96, longest_edge=128),
        depth=DepthConfig(near_is_bright=False, min_m=0.9),
        inference=InferenceConfig(score_threshold=0.9),
    )
    config = pipeline_config({**DEFAULTS, "model.input_width": 192}, stored)
    assert (config.input.shortest_edge, config.input.longest_edge) == (96, 192)
    assert not config.depth.near_is_bright
    assert config.depth.min_m == DEFAULTS["depth.min"]
    assert config.inference.score_threshold == DEFAULTS["detection.score_threshold"]


def test_settings_reach_the_intake():
    given = {
        "sync.mode": "latest",
        "sync.tolerance": 0.01,
        "sync.queue": 9,
        "sync.reset_on_backward_jump": 2.0,
        "sync.use_arrival_time": True,
        "input.require_depth": False,
        "input.timeout": 7.0,
        "input.max_rate": 12.0,
        "input.color_transport": "compressed",
        "input.depth_transport": "compressedDepth",
    }
    settings = intake_settings({**DEFAULTS, **given})
    pairing = settings.pairing
    assert (pairing.mode, pairing.tolerance_s, pairing.queue) == ("latest", 0.01, 9)
    assert pairing.reset_on_backward_jump_s == 2.0
    assert settings == IntakeSettings(
        pairing=pairing,
        use_arrival_time=True,
        require_depth=False,
        depth_timeout_s=7.0,
        max_rate_hz=12.0,
        color_transport="compressed",
        depth_transport="compressedDepth",
    )
    assert intake_settings({**DEFAULTS, "sync.mode": "approximate"}).pairing.mode == "nearest"


def test_settings_reach_what_follows_the_network():
    given = {
        "detection.score_threshold": 0.6,
        "detection.hysteresis": 0.2,
        "depth.unit": "mm",
        "input.size_mismatch": "resize_depth",
        "camera.rectified": "true",
        "geometry.enable": False,
        "geometry.min_points": 99,
        "geometry.stride": 3,
        "geometry.erode": 5,
        "geometry.outlier_mad": 2.5,
        "geometry.box_up_axis": "camera",
        "depth.min": 0.3,
        "depth.max": 4.0,
        "tracking.enable": False,
        "tracking.max_gap": 2.0,
        "tracking.iou_weight": 0.25,
    }
    settings = processor_settings({**DEFAULTS, **given})
    assembly, perception = settings.assembly, settings.perception
    assert (assembly.unit, assembly.size_mismatch, assembly.rectified) == (
        "mm",
        "resize_depth",
        "true",
    )
    assert perception.score_threshold == 0.6
    assert perception.geometry == GeometrySettings(
        enabled=False,
        min_points=99,
        stride=3,
        erode=5,
        outlier_mad=2.5,
        box_up_axis="camera",
        min_m=0.3,
        max_m=4.0,
    )
    assert perception.tracking == TrackingSettings(
        enabled=False, max_gap_s=2.0, iou_weight=0.25, hysteresis=0.2
    )


def test_settings_reach_the_messages():
    given = {
        "output.mask_encoding": "rle",
        "output.points_stride": 4,
        "output.masked_depth": "keep",
        "output.jpeg_quality": 40,
    }
    assert output_options({**DEFAULTS, **given}) == OutputOptions(
        mask_encoding=MaskEncoding.from_name("rle"),
        points_stride=4,
        masked_depth="keep",
        jpeg_quality=40,
    )


@pytest.mark.parametrize("row", [row for row in SCHEMA if row.choices], ids=lambda row: row.name)
def test_every_choice_can_be_used(row):
    for choice in row.choices:
        values = {**DEFAULTS, row.name: choice, "output.frame": "base_link"}
        assert check_values(values) is None
        output_options(values)


def test_every_mask_encoding_can_be_chosen():
    row = next(row for row in SCHEMA if row.name == "output.mask_encoding")
    options = [output_options({**DEFAULTS, row.name: choice}) for choice in row.choices]
    assert {entry.mask_encoding for entry in options} == set(MaskEncoding)


def test_cameras_without_a_name_are_one():
    for names in ([], [""]):
        assert camera_names({"cameras": names}) == ("",)
    assert camera_names({"cameras": ["left", "right"]}) == ("left", "right")


def test_only_what_may_change_while_active_is_taken_over_at_once(make_node):
    node = make_node()
    dynamic = {row.name for row in SCHEMA if row.change is Change.DYNAMIC}
    assert dynamic_values(node, [row.name for row in SCHEMA]) == {
        name: DEFAULTS[name] for name in dynamic
    }
    assert dynamic_values(node, ["sync.mode", "use_sim_time"]) == {}


def test_what_can_only_be_set_at_launch_cannot_be_set_later(make_node):
    node = make_node()
    for row in SCHEMA:
        if row.change is Change.LAUNCH:
            (result,) = node.set_parameters([Parameter(row.name, value=row.default)])
            assert not result.successful


def test_the_defaults_are_those_of_the_library():
    library = InferenceConfig()
    for field, name in {
        "score_threshold": "detection.score_threshold",
        "mask_threshold": "detection.mask_threshold",
        "max_instances": "detection.max_instances",
        "min_area": "detection.min_area",
        "min_piece": "detection.min_piece",
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
    assert by_name["sync.mode"][1:4] == ["str", '"nearest"', "nearest, exact, latest, approximate"]
    assert by_name["autostart"][1:5] == ["bool", "true", "", "only at launch"]


def test_the_page_of_the_documentation_is_what_the_node_prints():
    """`python -m calibnet_ros.perception_node --parameters > docs/parameters.md` mends it."""
    page = (REPOSITORY / "docs/parameters.md").read_text()
    assert page == documentation()
    assert page.endswith(f"\n{markdown_table()}\n")


def test_asking_for_the_parameters_prints_that_page_and_ends(capsys):
    assert main(["--parameters"]) == 0
    assert capsys.readouterr().out == documentation()
