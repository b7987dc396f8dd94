"""The node's parameters: one table that declares, validates, reads and documents them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from calibnet_core.config import MODELS, PipelineConfig, load_config
from calibnet_core.perception.mask_codec import MaskEncoding
from calibnet_core.perception.pairing import PairerConfig

Value = bool | int | float | str
Values = Mapping[str, Value]


class Change(Enum):
    """When a parameter may change."""

    DYNAMIC = "any time"
    CONFIGURE = "takes effect at the next configure"
    LAUNCH = "only at launch"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One parameter: its default gives the type, `choices` or the inclusive range bound it."""

    name: str
    default: Value
    help: str
    change: Change = Change.CONFIGURE
    lowest: float = -math.inf
    highest: float = math.inf
    choices: tuple[str, ...] = ()

    def refusal(self, value: Value) -> str | None:
        """Why `value` cannot be set, or None."""
        if self.choices and value not in self.choices:
            return f"{self.name} is '{value}'; choose one of {', '.join(self.choices)}"
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        # The comparison is false for NaN, which is in no range.
        if is_number and not self.lowest <= value <= self.highest:
            return f"{self.name} is {value}; choose {self.lowest:g} to {self.highest:g}"
        return None


_D, _C, _R = Change.DYNAMIC, Change.CONFIGURE, Change.LAUNCH

SCHEMA: tuple[Row, ...] = (
    Row(name="model.name", default="calibnet_r50", choices=tuple(MODELS), help="Network to build."),
    Row(
        name="model.weights",
        default="",
        help="Path of a .safetensors or .pth file; empty leaves the weights random.",
    ),
    Row(
        name="model.sha256",
        default="",
        help="When set, the weights file must have this hash (64 hexadecimal digits).",
    ),
    Row(
        name="model.config",
        default="",
        help="YAML file with the input and depth settings of the pipeline; empty takes the "
        "defaults. The detection.* and depth.* parameters win over it.",
    ),
    Row(
        name="model.device",
        default="auto",
        help="cpu, cuda, cuda:N, or auto: the GPU where there is one, else the CPU.",
    ),
    Row(
        name="model.allow_cpu_fallback",
        default=False,
        help="Run on the CPU when the CUDA device asked for cannot be used.",
    ),
    Row(
        name="model.warmup_runs",
        default=1,
        lowest=0,
        highest=50,
        help="Inferences on an empty picture while configuring, so that the first frame is fast.",
    ),
    Row(
        name="detection.score_threshold",
        default=0.5,
        lowest=0.0,
        highest=1.0,
        change=_D,
        help="Instances must score above this.",
    ),
    Row(
        name="detection.mask_threshold",
        default=0.5,
        lowest=0.05,
        highest=0.95,
        change=_D,
        help="Foreground probability above which a pixel belongs to a mask.",
    ),
    Row(
        name="detection.max_instances",
        default=50,
        lowest=1,
        highest=1000,
        change=_D,
        help="The best so many instances are published.",
    ),
    Row(
        name="detection.min_area",
        default=64,
        lowest=0,
        highest=1_000_000,
        change=_D,
        help="Smaller masks are dropped, in pixels of the input image.",
    ),
    Row(
        name="sync.mode",
        default="nearest",
        choices=("exact", "nearest", "latest", "approximate"),
        help="How colour and depth are paired; approximate is the stock synchroniser of "
        "message_filters.",
    ),
    Row(
        name="sync.tolerance",
        default=0.0,
        lowest=0.0,
        highest=0.5,
        change=_D,
        help="Largest distance of the two stamps in seconds; 0 is automatic: 0.45 of the measured "
        "colour period, at most 0.025.",
    ),
    Row(
        name="sync.queue",
        default=5,
        lowest=1,
        highest=30,
        help="Messages of each stream that may wait for a partner.",
    ),
    Row(
        name="sync.use_arrival_time",
        default=False,
        help="Pair by time of arrival, for drivers that do not stamp their images.",
    ),
    Row(
        name="sync.reset_on_backward_jump",
        default=0.5,
        lowest=0.05,
        highest=10.0,
        change=_D,
        help="Stamps that fall back by more seconds than this mean that time restarted.",
    ),
    Row(
        name="input.max_age",
        default=0.0,
        lowest=0.0,
        highest=10.0,
        change=_D,
        help="Pairs older than so many seconds are dropped; 0 keeps all.",
    ),
    Row(
        name="input.timeout",
        default=2.0,
        lowest=0.1,
        highest=60.0,
        change=_D,
        help="Seconds of silence after which diagnostics call an input missing.",
    ),
    Row(
        name="depth.unit",
        default="auto",
        choices=("auto", "m", "mm"),
        help="Unit of depth images; auto takes it from the encoding (REP 118).",
    ),
    Row(
        name="depth.min",
        default=0.1,
        lowest=0.0,
        highest=100.0,
        change=_D,
        help="Nearer readings count as not measured, in metres.",
    ),
    Row(
        name="depth.max",
        default=10.0,
        lowest=0.0,
        highest=100.0,
        change=_D,
        help="Farther readings count as not measured, in metres; above depth.min.",
    ),
    Row(
        name="output.mask_encoding",
        default="bits",
        choices=("none", "bits", "mono8", "rle"),
        change=_D,
        help="How masks travel in ~/instances.",
    ),
    Row(
        name="output.overlay_rate",
        default=10.0,
        lowest=0.0,
        highest=60.0,
        change=_D,
        help="Most overlays a second while somebody watches; 0 draws every frame.",
    ),
    Row(
        name="autostart",
        default=True,
        change=_R,
        help="Configure and activate without a lifecycle manager.",
    ),
    Row(
        name="diagnostics.period",
        default=1.0,
        lowest=0.1,
        highest=60.0,
        change=_R,
        help="Seconds between diagnostics.",
    ),
)


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
    try:
        pairer_config(values)
    except ValueError as error:
        return str(error)
    return None


def pipeline_config(values: Values) -> PipelineConfig:
    """Settings of the pipeline: the YAML file of `model.config`, then the parameters.

    Raises:
        ConfigError: the file is missing or wrong.
    """
    path = str(values["model.config"])
    config = load_config(path) if path else PipelineConfig()
    return with_dynamic_values(config, values)


def with_dynamic_values(config: PipelineConfig, values: Values) -> PipelineConfig:
    """`config` with the detection.* and depth.* parameters, which may change while active."""
    inference = replace(
        config.inference,
        score_threshold=float(values["detection.score_threshold"]),
        mask_threshold=float(values["detection.mask_threshold"]),
        max_instances=int(values["detection.max_instances"]),
        min_area=int(values["detection.min_area"]),
    )
    depth = replace(
        config.depth, min_m=float(values["depth.min"]), max_m=float(values["depth.max"])
    )
    return replace(config, inference=inference, depth=depth)


def pairer_config(values: Values) -> PairerConfig:
    """Settings of our own pairer; `approximate` is not one of its modes and reads as `nearest`."""
    mode = values["sync.mode"]
    return PairerConfig(
        mode="nearest" if mode == "approximate" else mode,  # type: ignore[arg-type]
        tolerance_s=float(values["sync.tolerance"]),
        queue=int(values["sync.queue"]),
        reset_on_backward_jump_s=float(values["sync.reset_on_backward_jump"]),
    )


def mask_encoding(values: Values) -> MaskEncoding:
    """The mask encoding that `output.mask_encoding` names."""
    return MaskEncoding[str(values["output.mask_encoding"]).upper()]


def markdown_table(rows: Sequence[Row] = SCHEMA) -> str:
    """The parameters as a Markdown table, for the documentation."""
    lines = [
        "| name | type | default | range | change | meaning |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        bounds = ", ".join(row.choices)
        if math.isfinite(row.lowest):
            bounds = f"{row.lowest:g} to {row.highest:g}"
        default = f'"{row.default}"' if isinstance(row.default, str) else str(row.default).lower()
        lines.append(
            f"| `{row.name}` | {type(row.default).__name__} | {default} | {bounds} | "
            f"{row.change.value} | {row.help} |"
        )
    return "\n".join(lines)


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


def _refuse_bad_values_of(node: Node) -> Any:
    names = {row.name for row in SCHEMA}

    def callback(parameters: list[Parameter]) -> SetParametersResult:
        changed = {entry.name: entry.value for entry in parameters if entry.name in names}
        refusal = check_values({**read_parameters(node), **changed}) if changed else None
        return SetParametersResult(successful=refusal is None, reason=refusal or "")

    return callback
