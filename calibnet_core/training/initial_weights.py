"""What a run starts from: a whole trained model, or a backbone that knows ImageNet."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from calibnet_core.checkpoint import load_weights, read_state_dict
from calibnet_core.config import ConfigError
from calibnet_core.models.backbones import Backbone
from calibnet_core.models.calibnet.initialisation import copy_backbone
from calibnet_core.models.calibnet.model import CalibNet
from calibnet_core.structures import WeightsError
from calibnet_core.training.config import TrainConfig

_TORCHVISION_RESNET = (
    (r"(conv1|bn1)\.(\w+)", r"stem.\1.\2"),
    (r"layer1\.(.+)", r"res2.\1"),
    (r"layer2\.(.+)", r"res3.\1"),
    (r"layer3\.(.+)", r"res4.\1"),
    (r"layer4\.(.+)", r"res5.\1"),
)
_CLASSIFIER = ("fc.", "head.", "classifier.", "features.18.", "norm.", "unused_head.")
"""Beginnings of entries that classify, which a feature extractor has no use for."""
_NEW = ("norms.", "unused_head.")
"""Beginnings of entries that ImageNet weights do not have: norms of the outputs, unused parts."""
_DERIVED = ("num_batches_tracked", "relative_position_index")
_DOWNLOADS = {
    "resnet50": "ResNet50_Weights.IMAGENET1K_V1",
    "resnet101": "ResNet101_Weights.IMAGENET1K_V1",
    "swin_t": "Swin_T_Weights.IMAGENET1K_V1",
    "mobilenet_v2": "MobileNet_V2_Weights.IMAGENET1K_V1",
}


def load_initial_weights(model: CalibNet, config: TrainConfig) -> str:
    """Load what `config.run` names; returns a sentence about it.

    Raises:
        WeightsError: a file cannot be read or does not fit; nothing was loaded.
        ConfigError: there is nothing to download for the backbone, or no network.
    """
    run = config.run
    if run.initial_weights is not None:
        report = load_weights(model, run.initial_weights)
        return f"starting from {run.initial_weights} ({report.loaded} entries)"
    if run.backbone_weights is None:
        return "starting from random weights"
    if run.backbone_weights == "torchvision":
        state = _download(config.model.backbone)
    else:
        state = read_state_dict(Path(run.backbone_weights))
    backbone = model.rgb_encoder.get_submodule("backbone")
    assert isinstance(backbone, Backbone)
    loaded = load_backbone(backbone, state, run.backbone_weights)
    if config.model.modalities == "rgbd":
        copy_backbone(model)
    return f"backbones starting from {run.backbone_weights} ({loaded} entries)"


def load_backbone(backbone: Backbone, state: Mapping[str, Tensor], label: str) -> int:
    """Copy ImageNet weights into a backbone; returns the number of entries copied.

    Known are this project's names, those of the published code and those of torchvision and timm.
    The classifier is left out.

    Raises:
        WeightsError: an entry is missing, unknown or of another shape; nothing was loaded.
    """
    expected = backbone.state_dict()
    renamed: dict[str, Tensor] = {}
    unknown, misshapen = [], []
    for key, value in state.items():
        name = _own_name(backbone, key, expected)
        if name is None:
            if not key.startswith(_CLASSIFIER) and not key.endswith(_DERIVED):
                unknown.append(key)
        elif name.endswith(_DERIVED):
            continue
        elif value.shape != expected[name].shape:
            misshapen.append(
                f"{key} is {tuple(value.shape)}, expected {tuple(expected[name].shape)}"
            )
        else:
            renamed[name] = value
    missing = [
        name
        for name in expected
        if name not in renamed and not name.startswith(_NEW) and not name.endswith(_DERIVED)
    ]
    for what, entries in (("missing", missing), ("unknown", unknown), ("misshapen", misshapen)):
        if entries:
            shown = ", ".join(entries[:5])
            raise WeightsError(
                f"{label}: no weights of a {type(backbone).__name__}; {len(entries)} entries are "
                f"{what}: {shown}; give ImageNet weights of that backbone"
            )
    if broken := [name for name, value in renamed.items() if not value.isfinite().all()]:
        raise WeightsError(f"{label}: holds NaN or infinite numbers, in {broken[0]} first")
    backbone.load_state_dict({**expected, **renamed})
    return len(renamed)


def _own_name(backbone: Backbone, key: str, expected: Mapping[str, Tensor]) -> str | None:
    if key in expected:
        return key
    for pattern, replacement in (*backbone.published_keys, *_TORCHVISION_RESNET):
        if match := re.fullmatch(pattern, key):
            name = match.expand(replacement)
            if name in expected:
                return name
    return None


def _download(backbone: str) -> Mapping[str, Tensor]:
    if backbone not in _DOWNLOADS:
        raise ConfigError(
            f"run.backbone_weights is 'torchvision', which has no weights of {backbone}; give a "
            "local file"
        )
    from torchvision.models import get_weight

    try:
        state: Mapping[str, Tensor] = get_weight(_DOWNLOADS[backbone]).get_state_dict(
            check_hash=True
        )
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            f"the ImageNet weights of {backbone} could not be downloaded ({error}); connect to a "
            "network, or give a local file as run.backbone_weights"
        ) from error
    return state
