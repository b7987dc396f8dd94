from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torchvision
from torch import Tensor

from calibnet_core import PipelineConfig, build_model
from calibnet_core.checkpoint import save_weights
from calibnet_core.config import ConfigError, ModelConfig
from calibnet_core.models.backbones import build_backbone
from calibnet_core.structures import WeightsError
from calibnet_core.training.config import RunConfig, TrainConfig
from calibnet_core.training.initial_weights import load_backbone, load_initial_weights
from tests.support.parity import published_entries, recipe_weights
from tests.support.training import TINY_MODEL


def config(**run: str) -> TrainConfig:
    return TrainConfig(model=TINY_MODEL, run=RunConfig(**run))  # type: ignore[arg-type]


def mobilenet() -> dict[str, Tensor]:
    torch.manual_seed(0)
    state: dict[str, Tensor] = torchvision.models.mobilenet_v2(weights=None).state_dict()
    return state


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("resnet50", torchvision.models.resnet50),
        ("swin_t", torchvision.models.swin_t),
        ("mobilenet_v2", torchvision.models.mobilenet_v2),
    ],
)
def test_weights_of_torchvision_give_torchvision_s_features(name: str, make: object) -> None:
    torch.manual_seed(0)
    network = make(weights=None).eval()  # type: ignore[operator]
    with torch.no_grad():
        for buffer_name, buffer in network.named_buffers():
            if buffer_name.endswith("running_mean"):
                buffer.normal_()
    backbone = build_backbone(name).eval()
    load_backbone(backbone, network.state_dict(), "file")
    # So large that no window covers a map: where one does, the published Swin-T shifts and
    # torchvision's does not.
    image = torch.randn(1, 3, 256, 256)
    seen: list[Tensor] = []
    stage = {"resnet50": "layer1", "swin_t": "features.7", "mobilenet_v2": "features.6"}[name]
    network.get_submodule(stage).register_forward_hook(lambda *a: seen.append(a[2]))
    with torch.no_grad():
        network(image)
        levels = backbone(image)
        if name == "swin_t":
            # The last stage before its norm, which is new here and starts as no change of scale.
            expected = backbone.norms[3](seen[0]).permute(0, 3, 1, 2)  # type: ignore[operator, index]
            torch.testing.assert_close(levels.res5, expected)
        else:
            level = levels.res2 if name == "resnet50" else levels.res3
            torch.testing.assert_close(level, seen[0], rtol=1e-4, atol=1e-4)


def test_backbones_of_published_checkpoints_load_by_their_names() -> None:
    prefix = "backbone."
    weights = {
        key.removeprefix(prefix): value
        for key, value in recipe_weights(published_entries("r50")).items()
        if key.startswith(prefix)
    }
    backbone = build_backbone("resnet50")
    assert load_backbone(backbone, weights, "file") == len(weights)
    torch.testing.assert_close(
        backbone.state_dict()["stem.conv1.weight"], weights["stem.conv1.weight"]
    )


def test_both_modalities_start_from_the_same_features(tmp_path: Path) -> None:
    path = tmp_path / "imagenet.safetensors"
    safetensors.torch.save_file(mobilenet(), path)
    model = build_model(TINY_MODEL)
    said = load_initial_weights(model, config(backbone_weights=str(path)))
    assert str(path) in said
    key = "features.5.conv.0.0.weight"
    for encoder in (model.rgb_encoder, model.depth_encoder):
        assert torch.equal(encoder.backbone.state_dict()[key], mobilenet()[key])  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("features.2.conv.1.0.weight"), "1 entries are missing"),
        (lambda state: state.update({"surprise": torch.zeros(1)}), "1 entries are unknown"),
        (
            lambda state: state.update({"features.0.0.weight": torch.zeros(1)}),
            "1 entries are missing",
        ),
        (lambda state: state["features.0.0.weight"].fill_(torch.nan), "NaN or infinite"),
    ],
)
def test_weights_that_do_not_fit_change_nothing(change: object, message: str) -> None:
    state = mobilenet()
    change(state)  # type: ignore[operator]
    backbone = build_backbone("mobilenet_v2")
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    with pytest.raises(WeightsError, match=message):
        load_backbone(backbone, state, "imagenet.pth")
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


def test_a_whole_model_can_be_the_start(tmp_path: Path) -> None:
    trained = build_model(TINY_MODEL, seed=7)
    path = tmp_path / "trained.safetensors"
    save_weights(trained, path, model_name="mine", settings=PipelineConfig(model=TINY_MODEL))
    model = build_model(TINY_MODEL, seed=8)
    load_initial_weights(model, config(initial_weights=str(path)))
    expected = trained.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())


def test_without_a_wish_weights_stay_random() -> None:
    model = build_model(TINY_MODEL, seed=3)
    assert load_initial_weights(model, config()) == "starting from random weights"


def test_what_cannot_be_downloaded_is_said() -> None:
    wish = TrainConfig(
        model=dataclasses.replace(ModelConfig(), backbone="p2t_large"),
        run=RunConfig(backbone_weights="torchvision"),
    )
    with pytest.raises(ConfigError, match="no weights of p2t_large; give a local file"):
        load_initial_weights(build_model(TINY_MODEL), wish)
