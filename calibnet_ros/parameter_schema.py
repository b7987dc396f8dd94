"""The node's parameters: one table that declares, bounds and documents them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from calibnet_core.config import MODELS

Value = bool | int | float | str | list[str]
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


def _row(name: str, default: Value, help_: str, change: Change = _C) -> Row:
    return Row(name=name, default=default, help=help_, change=change)


def _choice(name: str, choices: Sequence[str], help_: str, change: Change = _C) -> Row:
    """The first choice is the default."""
    return Row(name=name, default=choices[0], choices=tuple(choices), help=help_, change=change)


def _range(
    name: str,
    default: float,
    bounds: tuple[float, float],
    help_: str,
    change: Change = _D,
) -> Row:
    lowest, highest = bounds
    return Row(
        name=name, default=default, lowest=lowest, highest=highest, help=help_, change=change
    )


SCHEMA: tuple[Row, ...] = (
    _choice(
        "model.name",
        ("auto", *MODELS),
        "Network to build; auto: what the weights file says, else calibnet_r50.",
    ),
    _row(
        "model.weights",
        "",
        "Path of a .safetensors or .pth file; empty: the weights that come with this package, or, "
        "where model.name asks for another network than theirs, random ones.",
    ),
    _row("model.sha256", "", "When set, the weights file must have this hash (64 digits)."),
    _row(
        "model.config",
        "",
        "YAML file with input and depth settings of the pipeline; what it leaves out is as the "
        "weights say. The detection.*, depth.* and model.input_* parameters win over it.",
    ),
    _choice("model.backend", ("torch",), "Inference engine."),
    _row("model.device", "auto", "cpu, cuda, cuda:N, or auto: the GPU if there is one."),
    _row(
        "model.allow_cpu_fallback",
        False,
        "Run on the CPU when the CUDA device asked for cannot be used.",
    ),
    _choice("model.precision", ("fp32", "fp16", "bf16"), "Arithmetic of the network."),
    _range(
        "model.input_height",
        0,
        (0, 2048),
        "Images are scaled until their shortest edge reaches this, a multiple of 32 from 64 on, or "
        "the longest model.input_width; 0 takes the model's own.",
        _C,
    ),
    _range("model.input_width", 0, (0, 2048), "See model.input_height.", _C),
    _range(
        "model.warmup_runs",
        3,
        (0, 50),
        "Inferences on an empty picture while configuring, so that the first frame is fast.",
        _C,
    ),
    _range(
        "detection.score_threshold", 0.5, (0.0, 1.0), "Instances must score above this to appear."
    ),
    _range(
        "detection.mask_threshold",
        0.5,
        (0.05, 0.95),
        "Foreground probability above which a pixel belongs to a mask.",
    ),
    _range(
        "detection.nms_iou",
        0.5,
        (0.0, 1.0),
        "Of two masks that overlap by more than this IoU the better stays; 1 keeps both.",
    ),
    _range("detection.max_instances", 50, (1, 1000), "The best so many instances are published."),
    _range(
        "detection.min_area",
        64,
        (0, 1_000_000),
        "Smaller masks are dropped, in pixels of the input image.",
    ),
    _range(
        "detection.min_piece",
        0.5,
        (0.0, 1.0),
        "A mask's pieces are dropped that are smaller than this share of its largest; 0 keeps all.",
    ),
    _range(
        "detection.hysteresis",
        0.1,
        (0.0, 0.5),
        "A track that is published stays so until its score falls this far below the threshold.",
    ),
    _choice(
        "sync.mode",
        ("nearest", "exact", "latest", "approximate"),
        "How colour and depth are paired; approximate is the stock synchroniser of "
        "message_filters, which keeps the tolerance it was configured with, pairs by header stamps "
        "alone and falls silent when a recording loops.",
    ),
    _range(
        "sync.tolerance",
        0.0,
        (0.0, 0.5),
        "Largest distance of the two stamps in seconds; 0 is automatic: 0.45 of the measured "
        "colour period, at most 0.025.",
    ),
    _range("sync.queue", 5, (1, 30), "Messages of each stream that may wait for a partner.", _C),
    _row(
        "sync.use_arrival_time",
        False,
        "Pair by time of arrival, for drivers that do not stamp their images.",
    ),
    _range(
        "sync.reset_on_backward_jump",
        0.5,
        (0.05, 10.0),
        "Stamps that fall back by more seconds than this mean that time restarted.",
    ),
    _range("input.max_rate", 0.0, (0.0, 240.0), "Most pairs a second, by stamp; 0 takes all."),
    _range("input.max_age", 0.0, (0.0, 10.0), "Older pairs are dropped, in seconds; 0 keeps all."),
    _range(
        "input.timeout",
        2.0,
        (0.1, 60.0),
        "Seconds of silence after which diagnostics call an input missing.",
    ),
    _choice(
        "input.color_transport",
        ("raw", "compressed"),
        "Which colour messages to read: Image, or CompressedImage (JPEG or PNG) on "
        "color/image/compressed.",
    ),
    _choice(
        "input.depth_transport",
        ("raw", "compressedDepth"),
        "Which depth messages to read: Image, or CompressedImage (PNG or RVL) on "
        "depth/image/compressedDepth.",
    ),
    _row(
        "input.require_depth",
        True,
        "False: a colour image whose depth does not come is processed alone, with status 1.",
        _D,
    ),
    _choice(
        "input.size_mismatch",
        ("reject", "resize_depth"),
        "What to do with depth of another size than colour: refuse it, or take nearest pixels.",
    ),
    _choice(
        "depth.unit",
        ("auto", "m", "mm"),
        "Unit of depth images; auto takes it from the encoding (REP 118).",
    ),
    _range("depth.min", 0.1, (0.0, 100.0), "Nearer readings count as not measured, in metres."),
    _range(
        "depth.max",
        10.0,
        (0.0, 100.0),
        "Farther readings count as not measured, in metres; above depth.min.",
    ),
    _choice(
        "camera.rectified",
        ("auto", "true", "false"),
        "Whether the images are rectified, so that P of the CameraInfo holds, not K and D; auto: "
        "they are where D is zero.",
    ),
    _row("geometry.enable", True, "Measure position, box and surface of each instance.", _D),
    _range("geometry.min_points", 30, (3, 1_000_000), "Fewer points give no geometry."),
    _range("geometry.stride", 2, (1, 16), "Every so many rows and columns a point is taken."),
    _range(
        "geometry.erode",
        2,
        (0, 20),
        "Pixels taken off the rim of a mask, where depth mixes object and background.",
    ),
    _range(
        "geometry.outlier_mad",
        3.0,
        (1.0, 10.0),
        "Points farther off than so many scaled median deviations are left out.",
    ),
    _choice(
        "geometry.box_up_axis",
        ("none", "gravity", "camera"),
        "Whether boxes stand upright: none follows the points, camera takes the image's vertical, "
        "gravity that of output.frame (needs its transform).",
        _D,
    ),
    _row("tracking.enable", True, "Give objects ids that last from frame to frame.", _D),
    _range("tracking.max_gap", 1.0, (0.0, 30.0), "A track not seen for longer ends, in seconds."),
    _range(
        "tracking.iou_weight",
        0.5,
        (0.0, 1.0),
        "Share of mask overlap in the likeness of two objects; the rest is 3D distance.",
    ),
    _choice(
        "output.mask_encoding",
        ("bits", "mono8", "rle", "none"),
        "How masks travel in ~/instances.",
        _D,
    ),
    _row("output.overlay", True, "Offer pictures of the result to those who watch.", _D),
    _range(
        "output.overlay_rate",
        10.0,
        (0.0, 60.0),
        "Most overlays a second while somebody watches; 0 draws every frame.",
    ),
    _range("output.points_stride", 2, (1, 16), "~/points has every so many rows and columns."),
    _choice(
        "output.masked_depth",
        ("remove", "keep"),
        "Whether ~/masked_depth loses the salient objects, or everything else.",
        _D,
    ),
    _range("output.jpeg_quality", 85, (1, 100), "Of ~/overlay/compressed."),
    _row(
        "output.frame",
        "",
        "Also publish instances in this frame, such as base_link, on ~/transformed/instances "
        "(needs tf2_ros); empty: not.",
    ),
    _row("output.tf", False, "Broadcast a transform for each tracked object (needs tf2_ros)."),
    _range("output.tf_timeout", 0.05, (0.0, 1.0), "Longest wait for a transform, in seconds."),
    _range(
        "output.history",
        10,
        (0, 100),
        "Frames that are kept for ~/get_instance_cloud and ~/save_frame; each takes 6 bytes a "
        "pixel and one more for every object.",
        _C,
    ),
    _row("output.save_folder", "", "Where ~/save_frame writes; empty switches it off."),
    _row(
        "cameras",
        [""],
        "Names of cameras that share the model; each reads NAME/color/image and so on, and "
        "publishes on ~/NAME/instances and so on. Empty: one camera without a name.",
    ),
    _row("autostart", True, "Configure and activate without a lifecycle manager.", _R),
    _row("bond", True, "Heartbeat for Nav2's lifecycle manager, where bondpy is installed.", _R),
    _range("diagnostics.period", 1.0, (0.1, 60.0), "Seconds between diagnostics.", _R),
    _range(
        "diagnostics.min_rate",
        0.0,
        (0.0, 240.0),
        "Fewer results a second than this are a warning; 0: never.",
    ),
    _range(
        "diagnostics.max_latency_ms",
        0.0,
        (0.0, 60_000.0),
        "A 95th percentile of latency above this is a warning, in milliseconds; 0: never.",
    ),
)

_HEAD = """\
# Parameters of the perception node

Printed by `perception_node --parameters`; the table in `calibnet_ros/parameter_schema.py` declares,
checks and documents them. A value out of range, and values that do not go together, are refused
with a reason. Beside these, each topic has `qos_overrides.<topic>.<publisher or subscription>.`
with `reliability`, `durability`, `history` and `depth`, only at launch.
"""

DEFAULTS: Values = {row.name: row.default for row in SCHEMA}


def documentation() -> str:
    """The page of the documentation that lists the parameters."""
    return f"{_HEAD}\n{markdown_table()}\n"


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
        lines.append(
            f"| `{row.name}` | {_type_name(row.default)} | {_shown(row.default)} | {bounds} | "
            f"{row.change.value} | {row.help} |"
        )
    return "\n".join(lines)


def _type_name(default: Value) -> str:
    return "str[]" if isinstance(default, list) else type(default).__name__


def _shown(default: Value) -> str:
    if isinstance(default, list):
        return "[" + ", ".join(f'"{entry}"' for entry in default) + "]"
    return f'"{default}"' if isinstance(default, str) else str(default).lower()
