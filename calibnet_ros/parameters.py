"""Declaring, checking and reading the node's parameters, and turning them into settings."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from calibnet_core.config import InputConfig, PipelineConfig, settings_over
from calibnet_core.perception.frame_assembly import AssemblySettings
from calibnet_core.perception.geometry import GeometrySettings
from calibnet_core.perception.intake import IntakeSettings
from calibnet_core.perception.mask_codec import MaskEncoding
from calibnet_core.perception.pairing import PairerConfig
from calibnet_core.perception.perceiver import PerceptionSettings
from calibnet_core.perception.tracking import TrackingSettings
from calibnet_core.processor import ProcessorSettings
from calibnet_ros.messages import OutputOptions
from calibnet_ros.parameter_schema import SCHEMA, Change, Row, Value, Values

_CAMERA_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def declare_parameters(node: Node) -> None:
    """Declare every parameter with its range and help, and refuse values out of range."""
    for row in SCHEMA:
        node.declare_parameter(row.name, row.default, _descriptor(row))
    node.add_on_set_parameters_callback(_refuse_bad_values_of(node))


def read_parameters(node: Node) -> Values:
    """The present values by name."""
    return {row.name: node.get_parameter(row.name).value for row in SCHEMA}


def dynamic_values(node: Node, names: Iterable[str]) -> dict[str, Value]:
    """The present values of those of `names` that may change while the node is active."""
    wanted = set(names)
    return {
        row.name: node.get_parameter(row.name).value
        for row in SCHEMA
        if row.name in wanted and row.change is Change.DYNAMIC
    }


def check_values(values: Values) -> str | None:
    """Why these values, new or taken together, cannot be used; None if they can."""
    for row in SCHEMA:
        if row.name in values and (refusal := row.refusal(values[row.name])):
            return refusal
    if values["depth.min"] >= values["depth.max"]:
        return (
            f"depth.min is {values['depth.min']} and depth.max {values['depth.max']}; "
            "choose a smaller minimum or a larger maximum"
        )
    for name in ("model.input_height", "model.input_width"):
        if (edge := int(values[name])) and (edge < 64 or edge % 32):
            return f"{name} is {edge}; choose 0 or a multiple of 32 from 64 on"
    if values["geometry.box_up_axis"] == "gravity" and not values["output.frame"]:
        return (
            "geometry.box_up_axis is 'gravity' but output.frame is empty; name a frame whose z "
            "axis points up, such as base_link, or choose none or camera"
        )
    if values["sync.mode"] == "approximate" and values["sync.use_arrival_time"]:
        return (
            "sync.use_arrival_time does not go with sync.mode 'approximate', which reads header "
            "stamps; choose nearest"
        )
    try:
        camera_names(values)
        intake_settings(values)
        processor_settings(values)
    except ValueError as error:
        return str(error)
    return None


def camera_names(values: Values) -> tuple[str, ...]:
    """Names of the cameras; one empty name for a node with a single camera.

    Raises:
        ValueError: a name cannot be part of a topic, or comes twice.
    """
    names = [str(name) for name in values["cameras"]] or [""]  # type: ignore[union-attr]
    if names == [""]:
        return ("",)
    for name in names:
        if not _CAMERA_NAME.fullmatch(name):
            raise ValueError(
                f"cameras holds '{name}'; choose names of letters, digits and underscores"
            )
    if len(set(names)) < len(names):
        raise ValueError(f"cameras holds a name twice: {', '.join(names)}; choose different ones")
    return tuple(names)


def pipeline_config(values: Values, stored: PipelineConfig | None = None) -> PipelineConfig:
    """Settings of the pipeline: the YAML file of `model.config`, then the parameters.

    Args:
        values: parameters.
        stored: what the weights say of their input, which holds where the file says nothing.

    Raises:
        ConfigError: the file is missing or wrong.
    """
    path = str(values["model.config"])
    config = stored or PipelineConfig()
    if path:
        config = settings_over(Path(path).expanduser(), stored)
    height, width = int(values["model.input_height"]), int(values["model.input_width"])
    shortest, longest = config.input.shortest_edge, config.input.longest_edge
    config = replace(
        config,
        input=InputConfig(shortest_edge=height or shortest, longest_edge=width or longest),
    )
    return with_dynamic_values(config, values)


def with_dynamic_values(config: PipelineConfig, values: Values) -> PipelineConfig:
    """`config` with the detection.* and depth.* parameters, which may change while active."""
    inference = replace(
        config.inference,
        score_threshold=float(values["detection.score_threshold"]),
        mask_threshold=float(values["detection.mask_threshold"]),
        nms_iou=float(values["detection.nms_iou"]),
        max_instances=int(values["detection.max_instances"]),
        min_area=int(values["detection.min_area"]),
        min_piece=float(values["detection.min_piece"]),
    )
    depth = replace(
        config.depth, min_m=float(values["depth.min"]), max_m=float(values["depth.max"])
    )
    return replace(config, inference=inference, depth=depth)


def intake_settings(values: Values) -> IntakeSettings:
    """How messages are taken in and paired.

    `approximate` is no mode of our own pairer and reads as `nearest`.

    Raises:
        ValueError: a value is out of range.
    """
    mode = values["sync.mode"]
    return IntakeSettings(
        pairing=PairerConfig(
            mode="nearest" if mode == "approximate" else mode,  # type: ignore[arg-type]
            tolerance_s=float(values["sync.tolerance"]),
            queue=int(values["sync.queue"]),
            reset_on_backward_jump_s=float(values["sync.reset_on_backward_jump"]),
        ),
        use_arrival_time=bool(values["sync.use_arrival_time"]),
        require_depth=bool(values["input.require_depth"]),
        depth_timeout_s=float(values["input.timeout"]),
        max_rate_hz=float(values["input.max_rate"]),
        color_transport=values["input.color_transport"],  # type: ignore[arg-type]
        depth_transport=values["input.depth_transport"],  # type: ignore[arg-type]
    )


def processor_settings(values: Values) -> ProcessorSettings:
    """How pairs become frames, and what happens after the network.

    Raises:
        ValueError: a value is out of range.
    """
    return ProcessorSettings(
        assembly=AssemblySettings(
            unit=values["depth.unit"],  # type: ignore[arg-type]
            size_mismatch=values["input.size_mismatch"],  # type: ignore[arg-type]
            rectified=values["camera.rectified"],  # type: ignore[arg-type]
        ),
        perception=PerceptionSettings(
            score_threshold=float(values["detection.score_threshold"]),
            geometry=GeometrySettings(
                enabled=bool(values["geometry.enable"]),
                min_points=int(values["geometry.min_points"]),
                stride=int(values["geometry.stride"]),
                erode=int(values["geometry.erode"]),
                outlier_mad=float(values["geometry.outlier_mad"]),
                box_up_axis=values["geometry.box_up_axis"],  # type: ignore[arg-type]
                min_m=float(values["depth.min"]),
                max_m=float(values["depth.max"]),
            ),
            tracking=TrackingSettings(
                enabled=bool(values["tracking.enable"]),
                max_gap_s=float(values["tracking.max_gap"]),
                iou_weight=float(values["tracking.iou_weight"]),
                hysteresis=float(values["detection.hysteresis"]),
                restart_s=float(values["sync.reset_on_backward_jump"]),
            ),
        ),
    )


def output_options(values: Values) -> OutputOptions:
    """How results are written into messages."""
    return OutputOptions(
        mask_encoding=MaskEncoding.from_name(str(values["output.mask_encoding"])),
        points_stride=int(values["output.points_stride"]),
        masked_depth=values["output.masked_depth"],  # type: ignore[arg-type]
        jpeg_quality=int(values["output.jpeg_quality"]),
    )


def _descriptor(row: Row) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(
        description=f"{row.help} Change: {row.change.value}.",
        additional_constraints=f"one of {', '.join(row.choices)}" if row.choices else "",
        read_only=row.change is Change.LAUNCH,
    )
    if isinstance(row.default, bool) or not math.isfinite(row.lowest):
        return descriptor
    if isinstance(row.default, int):
        bounds = IntegerRange(from_value=int(row.lowest), to_value=int(row.highest))
        descriptor.integer_range = [bounds]
    else:
        bounds = FloatingPointRange(from_value=float(row.lowest), to_value=float(row.highest))
        descriptor.floating_point_range = [bounds]
    return descriptor


def _refuse_bad_values_of(node: Node) -> Callable[[list[Parameter]], SetParametersResult]:
    names = {row.name for row in SCHEMA}

    def callback(parameters: list[Parameter]) -> SetParametersResult:
        changed = {entry.name: entry.value for entry in parameters if entry.name in names}
        refusal = check_values({**read_parameters(node), **changed}) if changed else None
        return SetParametersResult(successful=refusal is None, reason=refusal or "")

    return callback
