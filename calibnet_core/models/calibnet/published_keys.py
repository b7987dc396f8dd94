"""Names of the published CalibNet checkpoints and the names used here."""

from __future__ import annotations

import re

from calibnet_core.models.backbones import KeyRules

_MODALITIES = {
    "backbone": "rgb_encoder.backbone",
    "backbonedepth": "depth_encoder.backbone",
    "encoder": "rgb_encoder",
    "encoder_depth": "depth_encoder",
}

_ENCODER: KeyRules = (
    (r"input_convs\.0\.(.+)", r"project.res5.\1"),
    (r"input_convs\.1\.(.+)", r"project.res4.\1"),
    (r"input_convs\.2\.(.+)", r"project.res3.\1"),
    (r"res2_conv\.(.+)", r"project.res2.\1"),
    (r"trans_encoder\.level_embed", r"transformer.level_embed"),
    (
        r"trans_encoder\.encoder\.layers\.(\d+)\.self_attn\.(.+)",
        r"transformer.layers.\1.attention.\2",
    ),
    (r"trans_encoder\.encoder\.layers\.(\d+)\.(.+)", r"transformer.layers.\1.\2"),
)

_FUSION: KeyRules = tuple(
    (rf"fusion_decoder\.{published}\.{pattern}", rf"mask_branch.{ours}.{replacement}")
    for published, ours in (("fusion_module", "fuse_level3"), ("fusion_module_res2", "fuse_level2"))
    for pattern, replacement in (
        (r"g1", r"rgb_reweight.gain"),
        (r"g2", r"depth_reweight.gain"),
        (r"(rgb|depth)_weight_mlp\.0\.(\w+)", r"\1_reweight.scale.\2"),
        (r"spatial_attn_(rgb|depth)\.feat_conv\.(.+)", r"\1_attention.features.\2"),
        (r"spatial_attn_(rgb|depth)\.attn_conv\.(\w+)", r"\1_attention.weights.\2"),
        (r"depth_conv\.(.+)", r"depth_conv.\1"),
        (r"smooth_conv\.(.+)", r"output_conv.\1"),
        (r"(rgb|depth)_input\.0\.(\w+)", r"similarity.project_\1.\2"),
    )
)

_HEADS: KeyRules = (
    (r"decoder\.(rgb|depth)_input\.0\.(\w+)", r"kernel_branch.similarity.project_\1.\2"),
    (r"decoder\.inst_branch\.inst_convs\.0\.(\w+)", r"kernel_branch.rgb_conv.\1"),
    (r"decoder\.inst_branch\.inst_convs_depth\.0\.(\w+)", r"kernel_branch.depth_conv.\1"),
    (r"decoder\.inst_branch\.kernel_conv\.(\w+)", r"kernel_branch.rgb_maps.\1"),
    (r"decoder\.inst_branch\.kernel_conv_depth\.(\w+)", r"kernel_branch.depth_maps.\1"),
    (r"decoder\.inst_branch\.squeeze\.(\w+)", r"kernel_branch.merge_maps.\1"),
    (r"decoder\.inst_branch\.fc\.(\w+)", r"kernel_branch.embed.\1"),
    (r"decoder\.inst_branch\.score_linear\.(\w+)", r"kernel_branch.score.\1"),
    (r"decoder\.inst_branch\.mask_linear\.(\w+)", r"kernel_branch.kernel.\1"),
    (r"decoder\.inst_branch\.objectness\.(\w+)", r"kernel_branch.objectness.\1"),
    (r"fusion_decoder\.bn\.(\w+)", r"mask_branch.norm.\1"),
    (r"fusion_decoder\.bn2\.(\w+)", r"mask_branch.unused_norm.\1"),
    (r"fusion_decoder\.upconv\.(\w+)", r"mask_branch.upsample.\1"),
    (r"fusion_decoder\.mask_convs\.0\.(\w+)", r"mask_branch.conv.\1"),
    (r"fusion_decoder\.projection\.(\w+)", r"mask_branch.project.\1"),
    (r"predictor_rgb\.(.+)", r"auxiliary_heads.rgb_t3.\1"),
    (r"predictor_depth\.(.+)", r"auxiliary_heads.depth_t3.\1"),
    (r"predictor_rgb_r2\.(.+)", r"auxiliary_heads.rgb_c2.\1"),
    (r"predictor_depth_d2\.(.+)", r"auxiliary_heads.depth_d2.\1"),
)


def own_key(published_key: str, backbone_rules: KeyRules) -> str | None:
    """The name used here for a key of a published checkpoint, or None if no rule knows it.

    Args:
        published_key: for instance `backbonedepth.res2.0.conv1.norm.bias`.
        backbone_rules: `published_keys` of the model's backbone.
    """
    modality, _, rest = published_key.partition(".")
    if modality in _MODALITIES:
        rules = backbone_rules if modality.startswith("backbone") else _ENCODER
        renamed = _rename(rest, rules)
        return None if renamed is None else f"{_MODALITIES[modality]}.{renamed}"
    return _rename(published_key, _FUSION + _HEADS)


def _rename(key: str, rules: KeyRules) -> str | None:
    for pattern, replacement in rules:
        if match := re.fullmatch(pattern, key):
            return match.expand(replacement)
    return None
