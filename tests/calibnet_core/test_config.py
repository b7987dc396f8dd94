from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from calibnet_core.config import (
    MODELS,
    ConfigError,
    DepthConfig,
    InferenceConfig,
    InputConfig,
    ModelConfig,
    PipelineConfig,
    build_section,
    load_config,
    settings_over,
)
from calibnet_core.training.config import TrainConfig
from tests.support.shared import REPOSITORY

SECTIONS = {entry.name for entry in dataclasses.fields(PipelineConfig)}
YAML_FILES = sorted((REPOSITORY / "config").rglob("*.yaml"))


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write_text(text: str) -> Path:
        path = tmp_path / "settings.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_text


def test_the_shipped_file_shows_every_key_with_its_default() -> None:
    path = REPOSITORY / "config" / "pipeline.yaml"
    assert load_config(path) == PipelineConfig()
    assert yaml.safe_load(path.read_text()) == dataclasses.asdict(PipelineConfig())


def holds_parameters_of_nodes(document: Any) -> bool:
    """Whether a mapping leads to `ros__parameters` by names of nodes, perhaps below namespaces."""
    if not isinstance(document, dict) or not document:
        return False
    return "ros__parameters" in document or all(map(holds_parameters_of_nodes, document.values()))


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: path.name)
def test_every_shipped_yaml_loads(path: Path) -> None:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    if path.parent.name == "train":
        load_config(path, TrainConfig)
    elif SECTIONS & document.keys():
        load_config(path)
    else:
        assert holds_parameters_of_nodes(document)


def test_an_empty_file_keeps_all_defaults(write: Any) -> None:
    assert load_config(write("")) == PipelineConfig()
    assert load_config(write("# nothing but a comment\ndepth:\n")) == PipelineConfig()


def test_what_a_file_leaves_out_keeps_its_default(write: Any) -> None:
    config = load_config(write("inference: {score_threshold: 0.25}\nmodel: {backbone: swin_t}"))
    assert config == PipelineConfig(
        model=ModelConfig(backbone="swin_t"), inference=InferenceConfig(score_threshold=0.25)
    )


def test_a_whole_number_stands_for_a_float(write: Any) -> None:
    config = load_config(write("depth: {max_m: 5, min_m: 0.5}"))
    assert config.depth.max_m == 5.0
    assert isinstance(config.depth.max_m, float)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "depht: {}",
            "unknown keys ['depht'] in 'the document'; use some of ['depth', 'inference'",
        ),
        (
            "depth: {maxm: 1.0, min: 0.5}",
            "unknown keys ['maxm', 'min'] in 'depth'; use some of ['fill', 'high_percentile'",
        ),
        ("depth: {1: 2}", "unknown keys ['1'] in 'depth'"),
        ("depth: 3", "'depth' is int; expected a mapping"),
        ("depth: [1, 2]", "'depth' is list; expected a mapping"),
        ("- depth", "'the document' is list; expected a mapping"),
        ("false", "'the document' is bool; expected a mapping"),
        ("depth: {max_m: far}", "depth.max_m is 'far' (str); expected float"),
        ("depth: {max_m: true}", "depth.max_m is True (bool); expected float"),
        ("depth: {max_m: null}", "depth.max_m is None (NoneType); expected float"),
        ("depth: {near_is_bright: 1}", "depth.near_is_bright is 1 (int); expected bool"),
        ("model: {num_kernels: 50.0}", "model.num_kernels is 50.0 (float); expected int"),
        ("model: {num_kernels: true}", "model.num_kernels is True (bool); expected int"),
        ("model: {backbone: 50}", "model.backbone is 50 (int); expected str"),
        (
            "model: {backbone: vgg16}",
            "model.backbone is 'vgg16'; choose one of ['mobilenet_v2', 'p2t_large', 'pvtv2_b2_li'",
        ),
        ("depth: {fill: zeros}", "depth.fill is 'zeros'; choose one of ['far', 'nearest']"),
        ("inference: {score_threshold: .nan}", "inference.score_threshold is nan; choose a value"),
        ("depth: {max_m: .inf}", "depth.max_m is inf; choose at most 1000 m"),
        ("a: [unclosed", "is not valid YAML"),
        ("a: !!python/object/apply:os.getcwd []", "is not valid YAML"),
        ("inference: {score_threshold: 2001-99-99}", "is not valid YAML"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_the_way_out(
    write: Any, text: str, message: str
) -> None:
    path = write(text)
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.yaml"
    with pytest.raises(ConfigError, match=f"{path}: cannot be read .*No such file.*check the path"):
        load_config(path)
    with pytest.raises(ConfigError, match=f"{tmp_path}: cannot be read"):
        load_config(tmp_path)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(b"\xff\xfe\x00depth")
    with pytest.raises(ConfigError, match="is not valid YAML"):
        load_config(path)


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        (ModelConfig, {"num_kernels": 0}, "model.num_kernels is 0; choose a number from 1 to 1000"),
        (ModelConfig, {"num_kernels": 1001}, "model.num_kernels is 1001"),
        (ModelConfig, {"num_transformer_layers": -1}, "model.num_transformer_layers is -1"),
        (ModelConfig, {"num_transformer_layers": 13}, "a number from 0 to 12"),
        (ModelConfig, {"num_depth_transformer_layers": 13}, "layers is 13; choose a number from 0"),
        (ModelConfig, {"width": 32}, "model.width is 32; choose a multiple of 32 from 64 to 1024"),
        (ModelConfig, {"width": 80}, "model.width is 80"),
        (ModelConfig, {"width": 1056}, "model.width is 1056"),
        (ModelConfig, {"position": "x"}, "model.position is 'x'; choose one of ['published', 's"),
        (ModelConfig, {"depth_picture": "x"}, "depth_picture is 'x'; choose one of ['closeness',"),
        (ModelConfig, {"modalities": "d"}, "model.modalities is 'd'; choose one of ['rgb', 'rgbd"),
        (ModelConfig, {"kernel_fusion": "x"}, "one of ['early', 'late', 'plain']"),
        (ModelConfig, {"mask_fusion": "x"}, "one of ['cascade', 'plain', 'rmff', 'wsf']"),
        (ModelConfig, {"affinity": "x"}, "one of ['non_local', 'rows']"),
        (ModelConfig, {"depth_similarity": "x"}, "one of ['none', 'separate', 'shared']"),
        (ModelConfig, {"mask_levels": "c2"}, "one of ['c2_t3', 'c2_t3_t4', 'c2_t3_t4_t5', 't3', "),
        (
            ModelConfig,
            {"affinity": "non_local", "mask_fusion": "rmff"},
            "model.affinity is 'non_local'; choose 'rows', or model.mask_fusion 'wsf': 'rmff' has",
        ),
        (
            ModelConfig,
            {"trains_backbone_norms": True, "backbone": "swin_t"},
            "model.trains_backbone_norms is True; choose false for swin_t, which has no batch",
        ),
        (
            ModelConfig,
            {"shares_backbone": True},
            "model.shares_backbone is True; choose false for resnet50, or model.backbone 'mobil",
        ),
        (ModelConfig, {"mask_width": 16}, "model.mask_width is 16; choose a multiple of 32 from"),
        (ModelConfig, {"mask_width": 72}, "model.mask_width is 72"),
        (
            ModelConfig,
            {"mask_width": 32, "mask_levels": "t3"},
            "model.mask_width is 32; choose null with model.mask_levels 't3', or model.mask_level",
        ),
        *(
            (
                ModelConfig,
                {
                    "modalities": "rgb",
                    "kernel_fusion": "plain",
                    "mask_fusion": "plain",
                    "depth_similarity": "none",
                }
                | {name: value},
                f"model.{name} is {value!r}; choose {needed!r} with model.modalities 'rgb'",
            )
            for name, value, needed in (
                ("kernel_fusion", "late", "plain"),
                ("mask_fusion", "wsf", "plain"),
                ("depth_similarity", "separate", "none"),
                ("num_depth_transformer_layers", 3, None),
            )
        ),
        (
            ModelConfig,
            {
                "backbone": "mobilenet_v2",
                "shares_backbone": True,
                "modalities": "rgb",
                "kernel_fusion": "plain",
                "mask_fusion": "plain",
                "depth_similarity": "none",
            },
            "model.shares_backbone is True; choose False with model.modalities 'rgb'",
        ),
        (InputConfig, {"shortest_edge": 31}, "input.shortest_edge is 31"),
        (InputConfig, {"longest_edge": 4097}, "input.longest_edge is 4097"),
        (
            InputConfig,
            {"shortest_edge": 481},
            "input.shortest_edge is 481; choose at most input.longest_edge (480)",
        ),
        (DepthConfig, {"min_m": -0.1}, "depth.min_m is -0.1; choose"),
        (DepthConfig, {"min_m": 10.0}, "depth.max_m (10.0)"),
        (DepthConfig, {"max_m": 1000.5}, "depth.max_m is 1000.5; choose at most 1000 m"),
        (DepthConfig, {"low_percentile": 99.0}, "choose 0 <= low < high <= 100"),
        (DepthConfig, {"high_percentile": 100.5}, "is (1.0, 100.5)"),
        (InferenceConfig, {"score_threshold": 1.01}, "inference.score_threshold is 1.01"),
        (InferenceConfig, {"score_threshold": -0.01}, "choose a value from 0 to 1"),
        (InferenceConfig, {"mask_threshold": 0.0}, "inference.mask_threshold is 0.0"),
        (InferenceConfig, {"mask_threshold": 1.0}, "both excluded"),
        (InferenceConfig, {"max_instances": 0}, "inference.max_instances is 0"),
        (
            InferenceConfig,
            {"nms_iou": 1.01},
            "inference.nms_iou is 1.01; choose a value from 0 to 1",
        ),
        (InferenceConfig, {"nms_iou": -0.01}, "inference.nms_iou is -0.01"),
        (InferenceConfig, {"min_piece": 1.01}, "inference.min_piece is 1.01; choose a value from"),
        (InferenceConfig, {"min_area": -1}, "inference.min_area is -1; choose 0 or more pixels"),
    ],
)
def test_a_value_out_of_range_is_refused(
    section: type, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        section(**values)


@pytest.mark.parametrize(
    ("section", "values"),
    [
        (ModelConfig, {"num_kernels": 1, "num_transformer_layers": 0}),
        (ModelConfig, {"num_kernels": 1000, "num_transformer_layers": 12}),
        (ModelConfig, {"width": 64, "num_depth_transformer_layers": 0}),
        (ModelConfig, {"width": 1024, "num_depth_transformer_layers": 12}),
        (InputConfig, {"shortest_edge": 32, "longest_edge": 32}),
        (InputConfig, {"shortest_edge": 4096, "longest_edge": 4096}),
        (DepthConfig, {"min_m": 0.0, "max_m": 1000.0}),
        (DepthConfig, {"low_percentile": 0.0, "high_percentile": 100.0}),
        (InferenceConfig, {"score_threshold": 0.0, "max_instances": 1, "min_area": 0}),
        (InferenceConfig, {"score_threshold": 1.0, "max_instances": 1000}),
        (InferenceConfig, {"nms_iou": 0.0}),
        (InferenceConfig, {"nms_iou": 1.0}),
    ],
)
def test_the_ends_of_every_range_belong_to_it(section: type, values: dict[str, Any]) -> None:
    assert dataclasses.asdict(section(**values)).items() >= values.items()


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PipelineConfig().input.shortest_edge = 64  # type: ignore[misc]


def test_a_section_may_hold_nothing_optional_or_a_value() -> None:
    @dataclasses.dataclass(frozen=True)
    class Section:
        limit: float | None = 1.0

    assert build_section(Section, {"limit": None}, "x") == Section(None)
    assert build_section(Section, {"limit": 2}, "x") == Section(2.0)
    with pytest.raises(ConfigError, match=r"x\.limit is 'a' \(str\); expected float"):
        build_section(Section, {"limit": "a"}, "x")


def test_what_a_section_needs_must_be_there() -> None:
    @dataclasses.dataclass(frozen=True)
    class Section:
        name: str
        parts: tuple[str, ...] = dataclasses.field(default_factory=tuple)

    assert build_section(Section, {"name": "a"}, "x") == Section("a")
    with pytest.raises(ConfigError, match=r"keys \['name'\] are missing in 'x'; add them"):
        build_section(Section, {"parts": []}, "x")


@given(
    edges=st.tuples(st.integers(32, 4096), st.integers(32, 4096)),
    scale=st.floats(0.0, 1.0, exclude_min=True, exclude_max=True),
)
def test_a_smaller_input_has_legal_edges_of_at_most_that_scale(
    edges: tuple[int, int], scale: float
) -> None:
    config = InputConfig(shortest_edge=min(edges), longest_edge=max(edges))
    smaller = config.scaled(scale)
    for name in ("shortest_edge", "longest_edge"):
        edge, given_edge = getattr(smaller, name), getattr(config, name)
        assert edge % 32 == 0
        assert edge == 32 or scale * given_edge - 32 < edge <= scale * given_edge
    assert config.scaled(1.0) == config
    assert InputConfig().scaled(0.5**0.5) == InputConfig(shortest_edge=224, longest_edge=320)


@pytest.mark.parametrize("scale", [0.0, -1.0, 1.01, float("nan")])
def test_an_input_of_no_or_greater_size_is_refused(scale: float) -> None:
    with pytest.raises(ConfigError, match=r"scale is .*; choose a value above 0, up to 1"):
        InputConfig().scaled(scale)


def test_the_models_are_named_after_their_backbones_but_for_the_compact_one() -> None:
    assert {name: config.backbone for name, config in MODELS.items()} == {
        "calibnet_compact": "mobilenet_v2",
        "calibnet_r50": "resnet50",
        "calibnet_r101": "resnet101",
        "calibnet_swin_t": "swin_t",
        "calibnet_pvtv2_b2_li": "pvtv2_b2_li",
        "calibnet_p2t_large": "p2t_large",
    }
    published = [config for name, config in MODELS.items() if name != "calibnet_compact"]
    assert {(c.num_kernels, c.num_transformer_layers) for c in published} == {(50, 3)}


def test_the_published_evaluation_keeps_every_mask_in_kernel_order() -> None:
    assert InferenceConfig.published() == InferenceConfig(
        score_threshold=0.005,
        mask_threshold=0.45,
        max_instances=1000,
        min_area=0,
        min_piece=0.0,
        nms_iou=1.0,
        sort_by_score=False,
        rescore_before_threshold=False,
    )


def test_what_a_file_leaves_out_is_as_the_base_has_it(tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    path.write_text("input: {longest_edge: 200}\ninference:\n")
    base = PipelineConfig(
        input=InputConfig(shortest_edge=96, longest_edge=128),
        inference=InferenceConfig(nms_iou=0.5),
    )
    config = load_config(path, base=base)
    assert config.input == InputConfig(shortest_edge=96, longest_edge=200)
    assert config.inference == base.inference
    path.write_text("input: {shortest_edge: 300}\n")
    with pytest.raises(ConfigError, match="shortest_edge"):
        load_config(path, base=base)


def test_a_file_for_weights_says_all_of_the_network_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    path.write_text("model: {backbone: resnet101}\n")
    stored = PipelineConfig(
        model=MODELS["calibnet_compact"], input=InputConfig(shortest_edge=96, longest_edge=128)
    )
    config = settings_over(path, stored)
    assert config.model == ModelConfig(backbone="resnet101")
    assert config.input == stored.input
    assert settings_over(path, None).input == InputConfig()
