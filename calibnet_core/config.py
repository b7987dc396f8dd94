"""Settings as frozen dataclasses, and `load_config`, the one reader of YAML.

A YAML file has one mapping a section (`model`, `input`, `depth`, `inference`); what it leaves out
keeps the default written here. `config/pipeline.yaml` shows every key.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

Section = TypeVar("Section")

Backbone = Literal["resnet50", "resnet101", "swin_t", "pvtv2_b2_li", "p2t_large", "mobilenet_v2"]
BATCH_NORM_BACKBONES = ("resnet50", "resnet101", "mobilenet_v2")
Modalities = Literal["rgbd", "rgb"]
KernelFusion = Literal["late", "early", "plain"]
MaskFusion = Literal["wsf", "cascade", "rmff", "plain"]
Affinity = Literal["rows", "non_local"]
Similarity = Literal["separate", "shared", "none"]
MaskLevels = Literal["t3", "c2_t3", "c2_t3_t4", "t3_t4_t5", "c2_t3_t4_t5"]
Position = Literal["published", "sine"]
DepthFill = Literal["nearest", "far"]
DepthPicture = Literal["closeness", "normals"]
Precision = Literal["fp32", "fp16", "bf16"]


class ConfigError(ValueError):
    """A setting is unknown or out of range; the message names it and the way out."""


def require(condition: bool, name: str, value: object, expected: str) -> None:
    """Raise `ConfigError` unless a setting's condition holds."""
    if not condition:
        raise ConfigError(f"{name} is {value!r}; choose {expected}")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What is needed to build a CalibNet; the defaults are the published network.

    `docs/ablations.md` tells what each setting changes and which table of the paper it is for.
    """

    backbone: Backbone = "resnet50"
    """Feature extractor; RGB and depth get one each."""
    shares_backbone: bool = False
    """The extractors of RGB and depth have their weights in common, but for the layers up to 1/4 of
    the image's size, which depth enters at half its size; False, as published, gives each weights
    of its own. MobileNetV2 only.
    """
    trains_backbone_norms: bool = False
    """Batch norms of ResNet and MobileNet learn and follow the batches; False freezes them, as
    published.
    """
    width: int = 256
    """Channels of the encoders, both branches and the kernels; the feed-forward layers of the
    transformers have four times as many.
    """
    mask_width: int | None = None
    """Channels at 1/4 of the image's size, and of the kernels applied there; None means as many as
    everywhere. Only with model.mask_levels 'c2_t3'.
    """
    num_kernels: int = 50
    """Candidate instances N per image."""
    num_transformer_layers: int = 3
    """Deformable encoder layers of colour, and of depth where nothing else is said."""
    num_depth_transformer_layers: int | None = None
    """Deformable encoder layers of depth; None means as many as colour has."""
    position: Position = "published"
    """What tells a token its place: the published constant vector, or a sine encoding."""
    depth_picture: DepthPicture = "closeness"
    """What the three depth channels show: three times the depth, as published, or inverse depth and
    which way surfaces face; see `preprocessing.depth_picture`.
    """
    modalities: Modalities = "rgbd"
    """`rgb` looks at colour alone; depth is taken and ignored."""
    kernel_fusion: KernelFusion = "late"
    """How the kernel branch joins the modalities: late (DIK as published), early, or plain, a sum
    and a 1x1 convolution.
    """
    mask_fusion: MaskFusion = "wsf"
    """How the mask branch joins the modalities of a level: weight-sharing, cascade, RMFF, or plain,
    a sum and a 1x1 convolution.
    """
    affinity: Affinity = "rows"
    """What the affinity of weight-sharing fusion relates: rows (h x h) or cells (hw x hw)."""
    depth_similarity: Similarity = "separate"
    """Weights of the depth similarity assessments: one set each, one for all, or no assessment."""
    mask_levels: MaskLevels = "c2_t3"
    """Encoder levels that the mask branch fuses and adds up, of both modalities."""

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for name, hint in hints.items():
            if typing.get_origin(hint) is Literal:
                choices = sorted(typing.get_args(hint))
                value = getattr(self, name)
                require(value in choices, f"model.{name}", value, f"one of {choices}")
        require(
            64 <= self.width <= 1024 and self.width % 32 == 0,
            "model.width",
            self.width,
            "a multiple of 32 from 64 to 1024",
        )
        require(
            32 <= self.fine_width <= 1024 and self.fine_width % 32 == 0,
            "model.mask_width",
            self.mask_width,
            "a multiple of 32 from 32 to 1024",
        )
        require(
            1 <= self.num_kernels <= 1000,
            "model.num_kernels",
            self.num_kernels,
            "a number from 1 to 1000",
        )
        for name in ("num_transformer_layers", "num_depth_transformer_layers"):
            value = getattr(self, name)
            require(
                value is None or 0 <= value <= 12, f"model.{name}", value, "a number from 0 to 12"
            )
        self._require_that_settings_fit()

    def _require_that_settings_fit(self) -> None:
        require(
            not self.trains_backbone_norms or self.backbone in BATCH_NORM_BACKBONES,
            "model.trains_backbone_norms",
            self.trains_backbone_norms,
            f"false for {self.backbone}, which has no batch norms",
        )
        require(
            not self.shares_backbone or self.backbone == "mobilenet_v2",
            "model.shares_backbone",
            self.shares_backbone,
            f"false for {self.backbone}, or model.backbone 'mobilenet_v2'",
        )
        require(
            self.fine_width == self.width or self.mask_levels == "c2_t3",
            "model.mask_width",
            self.mask_width,
            f"null with model.mask_levels {self.mask_levels!r}, or model.mask_levels 'c2_t3'",
        )
        require(
            self.affinity == "rows" or self.mask_fusion == "wsf",
            "model.affinity",
            self.affinity,
            f"'rows', or model.mask_fusion 'wsf': {self.mask_fusion!r} has no affinity",
        )
        if self.modalities == "rgb":
            alone = {
                "shares_backbone": False,
                "kernel_fusion": "plain",
                "mask_fusion": "plain",
                "depth_similarity": "none",
                "num_depth_transformer_layers": None,
            }
            for name, needed in alone.items():
                value = getattr(self, name)
                require(
                    value == needed,
                    f"model.{name}",
                    value,
                    f"{needed!r} with model.modalities 'rgb', which has nothing to fuse",
                )

    @property
    def fine_width(self) -> int:
        """Channels at 1/4 of the image's size, whether said or not."""
        return self.width if self.mask_width is None else self.mask_width

    @property
    def depth_layers(self) -> int:
        """Deformable encoder layers of depth, whether said or not."""
        if self.num_depth_transformer_layers is None:
            return self.num_transformer_layers
        return self.num_depth_transformer_layers


MODELS: dict[str, ModelConfig] = {
    "calibnet_r50": ModelConfig(backbone="resnet50"),
    "calibnet_r101": ModelConfig(backbone="resnet101"),
    "calibnet_swin_t": ModelConfig(backbone="swin_t"),
    "calibnet_pvtv2_b2_li": ModelConfig(backbone="pvtv2_b2_li"),
    "calibnet_p2t_large": ModelConfig(backbone="p2t_large"),
    "calibnet_compact": ModelConfig(
        backbone="mobilenet_v2",
        shares_backbone=True,
        width=96,
        mask_width=32,
        num_kernels=30,
        num_transformer_layers=1,
        position="sine",
        depth_picture="normals",
    ),
}
"""The published models by name, and the compact one whose weights come with this package."""


def model_name(config: ModelConfig) -> str:
    """The name of a known model, or one made of the backbone for settings of one's own."""
    known = (name for name, known in MODELS.items() if known == config)
    return next(known, f"calibnet_{config.backbone}")


@dataclass(frozen=True, kw_only=True)
class InputConfig:
    """Size of the network input."""

    shortest_edge: int = 320
    """Pixels of the shorter side after resizing."""
    longest_edge: int = 480
    """Upper limit of the longer side in pixels; it wins over `shortest_edge`."""

    def __post_init__(self) -> None:
        for name in ("shortest_edge", "longest_edge"):
            value = getattr(self, name)
            require(32 <= value <= 4096, f"input.{name}", value, "a number from 32 to 4096 pixels")
        require(
            self.shortest_edge <= self.longest_edge,
            "input.shortest_edge",
            self.shortest_edge,
            f"at most input.longest_edge ({self.longest_edge})",
        )

    def scaled(self, scale: float) -> InputConfig:
        """Limits for a smaller image; scale 1 changes nothing.

        Args:
            scale: of both edges, in (0, 1]. They become multiples of 32, rounded down, because the
                network's input is padded to such, and at least 32.

        Raises:
            ConfigError: `scale` is out of range.
        """
        require(0.0 < scale <= 1.0, "scale", scale, "a value above 0, up to 1")
        if scale == 1.0:
            return self
        shortest, longest = (
            max(32, int(edge * scale) // 32 * 32)
            for edge in (self.shortest_edge, self.longest_edge)
        )
        return InputConfig(shortest_edge=shortest, longest_edge=longest)


@dataclass(frozen=True, kw_only=True)
class DepthConfig:
    """How measured depth becomes the network's 8-bit depth; see `preprocessing.encode_depth`."""

    min_m: float = 0.1
    """Nearer readings count as not measured, in metres."""
    max_m: float = 10.0
    """Farther readings count as not measured, in metres."""
    low_percentile: float = 1.0
    """Percentile of the valid depths that maps to the near end of the range; robust against flying
    pixels.
    """
    high_percentile: float = 99.0
    """Percentile of the valid depths that maps to the far end of the range."""
    near_is_bright: bool = True
    """Near surfaces become 255 and far ones 0; False turns it round."""
    fill: DepthFill = "nearest"
    """What stands in for unmeasured pixels: the value of the nearest measured pixel, or the far
    end.
    """

    def __post_init__(self) -> None:
        require(
            0.0 <= self.min_m < self.max_m,
            "depth.min_m",
            self.min_m,
            f"0 to below depth.max_m ({self.max_m})",
        )
        require(self.max_m <= 1000.0, "depth.max_m", self.max_m, "at most 1000 m")
        require(
            0.0 <= self.low_percentile < self.high_percentile <= 100.0,
            "depth.low_percentile, depth.high_percentile",
            (self.low_percentile, self.high_percentile),
            "0 <= low < high <= 100",
        )
        fills = typing.get_args(DepthFill)
        require(self.fill in fills, "depth.fill", self.fill, f"one of {sorted(fills)}")


@dataclass(frozen=True, kw_only=True)
class InferenceConfig:
    """Which of the network's candidates become instances, and how masks are cut."""

    score_threshold: float = 0.5
    """Candidates must score above this, in [0, 1]; calibrated scores count where there are some."""
    mask_threshold: float = 0.5
    """Pixels must have a foreground probability above this to belong to a mask, in (0, 1)."""
    max_instances: int = 50
    """At most this many instances, the best ones, are kept."""
    min_area: int = 64
    """Smaller masks are dropped, in pixels of the input image."""
    min_piece: float = 0.5
    """Of a mask in several pieces, those are dropped that are smaller than this share of the
    largest, in [0, 1]; 0 drops none, 1 keeps the largest alone.
    """
    nms_iou: float = 1.0
    """Instances whose mask overlaps (IoU) more than this with a better one's are dropped, in
    [0, 1]; 1 drops none.
    """
    sort_by_score: bool = True
    """Highest score first; False keeps the order of the network's kernels."""
    rescore_before_threshold: bool = True
    """True compares the final score; False, as published, the network's own score before mask
    quality and calibration enter.
    """

    def __post_init__(self) -> None:
        require(
            0.0 <= self.score_threshold <= 1.0,
            "inference.score_threshold",
            self.score_threshold,
            "a value from 0 to 1",
        )
        require(
            0.0 < self.mask_threshold < 1.0,
            "inference.mask_threshold",
            self.mask_threshold,
            "a value between 0 and 1, both excluded",
        )
        require(
            1 <= self.max_instances <= 1000,
            "inference.max_instances",
            self.max_instances,
            "a number from 1 to 1000",
        )
        require(self.min_area >= 0, "inference.min_area", self.min_area, "0 or more pixels")
        for name in ("min_piece", "nms_iou"):
            value = getattr(self, name)
            require(0.0 <= value <= 1.0, f"inference.{name}", value, "a value from 0 to 1")

    @classmethod
    def published(cls) -> InferenceConfig:
        """The setting of the published evaluation: low cut, every mask, kernel order."""
        return cls(
            score_threshold=0.005,
            mask_threshold=0.45,
            max_instances=1000,
            min_area=0,
            min_piece=0.0,
            sort_by_score=False,
            rescore_before_threshold=False,
        )


@dataclass(frozen=True, kw_only=True)
class PipelineConfig:
    """Everything between a camera frame and its instances."""

    model: ModelConfig = field(default_factory=ModelConfig)
    input: InputConfig = field(default_factory=InputConfig)
    depth: DepthConfig = field(default_factory=DepthConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)


def load_config(
    path: str | Path,
    kind: type[Section] = PipelineConfig,  # type: ignore[assignment]
    *,
    base: Section | None = None,
) -> Section:
    """Read a configuration from YAML.

    Args:
        path: of the file.
        kind: the dataclass of its sections.
        base: where values come from that the file leaves out; None takes the defaults.

    Raises:
        ConfigError: the file is missing or no YAML mapping, a key is unknown, or a value has the
            wrong type or range.
    """
    path = Path(path)
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (yaml.YAMLError, ValueError) as error:  # dates and encodings raise ValueError
        raise ConfigError(f"{path}: is not valid YAML: {error}") from error
    try:
        return build_section(kind, {} if document is None else document, "", base)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def settings_over(path: str | Path, stored: PipelineConfig | None) -> PipelineConfig:
    """A YAML file's settings for weights, and for the rest what these say of themselves.

    The network is a matter of the weights: of it, the file's own section tells all.

    Args:
        path: of the file.
        stored: settings in the weights file, if any.

    Raises:
        ConfigError: as from `load_config`.
    """
    return load_config(
        path, base=dataclasses.replace(stored or PipelineConfig(), model=ModelConfig())
    )


def build_section(
    cls: type[Section], values: Any, name: str, base: Section | None = None
) -> Section:
    """Turn a mapping into the dataclass `cls`, checking keys and types.

    Nested dataclasses are sections.

    Args:
        cls: a dataclass.
        values: a mapping of field names to plain values.
        name: dotted name of the section for error messages, empty at the top.
        base: has the values of keys that are missing.

    Raises:
        ConfigError: a key is unknown or missing, or a value has the wrong type or range.
    """
    if not isinstance(values, dict):
        raise ConfigError(
            f"'{name or 'the document'}' is {type(values).__name__}; expected a mapping of keys to "
            "values"
        )
    fields = {entry.name: entry for entry in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(str(key) for key in values if key not in fields):
        raise ConfigError(
            f"unknown keys {unknown} in '{name or 'the document'}'; use some of {sorted(fields)}"
        )
    missing = [key for key, entry in fields.items() if _is_needed(entry) and key not in values]
    if missing and base is None:
        raise ConfigError(f"keys {missing} are missing in '{name or 'the document'}'; add them")
    hints = typing.get_type_hints(cls)
    typed = {
        key: _typed(hints[key], value, f"{name}.{key}".lstrip("."), getattr(base, key, None))
        for key, value in values.items()
    }
    return cls(**typed) if base is None else dataclasses.replace(base, **typed)  # type: ignore[type-var]


def _is_needed(entry: dataclasses.Field[Any]) -> bool:
    return entry.default is entry.default_factory is dataclasses.MISSING


def _typed(hint: Any, value: Any, name: str, base: Any = None) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return build_section(hint, {} if value is None else value, name, base)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        if value is None and type(None) in typing.get_args(hint):
            return None
        hint = next(arg for arg in typing.get_args(hint) if arg is not type(None))
    if typing.get_origin(hint) is tuple:  # tuple[item, ...], written as a list
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{name} is {value!r}; expected a list")
        item = typing.get_args(hint)[0]
        return tuple(_typed(item, entry, f"{name}[{i}]") for i, entry in enumerate(value))
    expected = str if typing.get_origin(hint) is Literal else hint
    # YAML writes 1 where a float is meant; bool is an int to Python but never a number to a reader.
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        raise ConfigError(
            f"{name} is {value!r} ({type(value).__name__}); expected {expected.__name__}"
        )
    return value
