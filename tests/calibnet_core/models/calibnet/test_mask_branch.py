from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from calibnet_core.models.calibnet.encoder import EncoderLevels
from calibnet_core.models.calibnet.mask_branch import (
    AffinityReweighting,
    MaskBranch,
    SpatialAttention,
    WeightSharingFusion,
)


def randomised(module: nn.Module) -> nn.Module:
    """The module in evaluation mode, with norms that are not the identity."""
    torch.manual_seed(0)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.dim() == 1 and tensor.is_floating_point():
            positive = name.endswith(("weight", "running_var", "gain"))
            tensor.data.copy_(
                torch.rand_like(tensor) + 0.5 if positive else torch.randn_like(tensor)
            )
    return module.eval()


def batch_norm(features: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    mean, variance, gain, offset = (
        tensor.view(-1, 1, 1)
        for tensor in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (features - mean) / (variance + 1e-5).sqrt() * gain + offset


def fusion_step_by_step(module: WeightSharingFusion, rgb: Tensor, depth: Tensor) -> Tensor:
    """Weight-sharing fusion of one image (C, h, w), the affinity entry by entry."""

    def attend(attention: SpatialAttention, x: Tensor) -> tuple[Tensor, Tensor]:
        convolution, norm, _ = attention.features
        x = batch_norm(convolution(x[None])[0], norm).relu()
        summary = torch.stack((x.sum(0) / x.shape[0], x.max(0).values))
        return x, attention.weights(summary[None])[0, 0].sigmoid()

    def reweight(module: AffinityReweighting, weights: Tensor, affinity: Tensor) -> Tensor:
        alpha, beta, gain = module.scale.weight.item(), module.scale.bias.item(), module.gain.item()
        size = affinity.shape[0]
        raw = [
            [max(0.0, alpha * affinity[i, j].item() + beta) for j in range(size)]
            for i in range(size)
        ]
        total = sum(math.exp(entry) for row in raw for entry in row)
        refined = weights.clone()
        for i in range(size):
            for k in range(weights.shape[1]):
                refined[i, k] += gain * sum(
                    math.exp(raw[i][j]) / total * weights[j, k] for j in range(size)
                )
        return refined

    rgb, rgb_weights = attend(module.rgb_attention, rgb)
    depth, depth_weights = attend(module.depth_attention, depth)
    depth = depth * module.similarity(rgb[None], depth[None])[0]
    size = rgb.shape[1]
    affinity = torch.tensor(
        [[(rgb_weights[i] * depth_weights[j]).sum() for j in range(size)] for i in range(size)]
    )
    rgb = rgb * reweight(module.rgb_reweight, rgb_weights, affinity).sigmoid()
    depth = depth * reweight(module.depth_reweight, depth_weights, affinity).sigmoid()
    convolution, norm, _ = module.depth_conv
    depth = norm(convolution(depth[None]))[0].relu()
    convolution, norm, _ = module.output_conv
    return norm(convolution((rgb + depth)[None]))[0].relu()


@torch.no_grad()
def test_fusion_equals_the_equations_entry_by_entry() -> None:
    module = randomised(WeightSharingFusion())
    rgb, depth = torch.randn(2, 256, 3, 5), torch.randn(2, 256, 3, 5)
    fused = module(rgb, depth)
    assert fused.shape == rgb.shape
    for image in range(2):
        expected = fusion_step_by_step(module, rgb[image], depth[image])
        torch.testing.assert_close(fused[image], expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_non_local_affinity_relates_every_cell_to_every_other() -> None:
    module = randomised(WeightSharingFusion(32, non_local=True))
    rgb, depth = torch.randn(2, 2, 32, 3, 2)
    seen = []
    module.output_conv.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    fused = module(rgb, depth)
    for image in range(2):
        features, refined = [], []
        for attention, source in ((module.rgb_attention, rgb), (module.depth_attention, depth)):
            x, weights = attention(source[image : image + 1])
            features.append(x[0])
            refined.append(weights[0, 0].flatten().tolist())
        features[1] = features[1] * module.similarity(features[0][None], features[1][None])[0]
        summed = []
        for modality, reweight in enumerate((module.rgb_reweight, module.depth_reweight)):
            alpha, beta = reweight.scale.weight.item(), reweight.scale.bias.item()
            raw = [[max(0.0, alpha * r * d + beta) for d in refined[1]] for r in refined[0]]
            total = sum(math.exp(entry) for row in raw for entry in row)
            weights = [
                own
                + reweight.gain.item()
                * sum(
                    math.exp(entry) / total * other
                    for entry, other in zip(row, refined[modality], strict=True)
                )
                for own, row in zip(refined[modality], raw, strict=True)
            ]
            summed.append(features[modality] * torch.tensor(weights).view(3, 2).sigmoid())
        convolution, norm, _ = module.depth_conv
        expected = summed[0] + norm(convolution(summed[1][None]))[0].relu()
        torch.testing.assert_close(seen[0][image], expected, rtol=1e-4, atol=1e-4)
    assert fused.shape == rgb.shape


@torch.no_grad()
def test_mask_features_join_both_levels_at_a_quarter() -> None:
    module = randomised(MaskBranch())
    fine, coarse = (
        [torch.randn(1, 256, 6, 8) for _ in "ab"],
        [torch.randn(1, 256, 3, 4) for _ in "ab"],
    )
    nothing = torch.empty(0)
    rgb, depth = (
        EncoderLevels(c2, t3, nothing, nothing) for c2, t3 in zip(fine, coarse, strict=True)
    )

    hidden = batch_norm(module.fuse_level3(*coarse), module.norm).relu()
    x = torch.tensor([-1 + 2 * j / 3 for j in range(4)]).expand(1, 1, 3, 4)
    y = torch.tensor([-1 + 2 * i / 2 for i in range(3)]).view(3, 1).expand(1, 1, 3, 4)
    spread = torch.zeros(1, 258, 6, 8)  # a transposed convolution: zeros between, then convolve
    spread[:, :, ::2, ::2] = torch.cat((x, y, hidden), dim=1)
    flipped = module.upsample.weight.flip(2, 3).transpose(0, 1)
    hidden = F.conv2d(spread, flipped, module.upsample.bias, padding=1)
    hidden = module.conv(hidden + module.fuse_level2(*fine)).relu()
    expected = module.project(hidden)

    torch.testing.assert_close(module(rgb, depth), expected, rtol=1e-4, atol=1e-4)


def reweighting(alpha: float, beta: float, gain: float) -> AffinityReweighting:
    module = AffinityReweighting()
    torch.nn.init.constant_(module.scale.weight, alpha)
    torch.nn.init.constant_(module.scale.bias, beta)
    torch.nn.init.constant_(module.gain, gain)
    return module.double()


@given(
    seed=st.integers(0, 2**31),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    alpha=st.floats(-5.0, 5.0),
    beta=st.floats(-2.0, 2.0),
)
def test_the_affinity_hands_out_one_unit_over_all_its_entries(
    seed: int, height: int, width: int, alpha: float, beta: float
) -> None:
    # With weights of 1 everywhere, row i gains the sum of the affinity's row i; all rows share 1.
    generator = torch.Generator().manual_seed(seed)
    affinity = torch.rand(2, 1, height, height, generator=generator, dtype=torch.float64)
    weights = torch.ones(2, 1, height, width, dtype=torch.float64)
    gained = reweighting(alpha, beta, 1.0)(weights, affinity) - weights
    assert (gained >= 0).all()
    torch.testing.assert_close(gained.sum(2), torch.ones(2, 1, width, dtype=torch.float64))


@given(shift=st.floats(0.0, 3.0), seed=st.integers(0, 2**31))
def test_an_offset_of_all_affinities_changes_nothing_while_the_relu_is_open(
    shift: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    affinity, weights = (
        torch.rand(1, 1, 4, size, generator=generator, dtype=torch.float64) for size in (4, 3)
    )
    torch.testing.assert_close(
        reweighting(2.0, 0.1, 1.5)(weights, affinity),
        reweighting(2.0, 0.1 + shift, 1.5)(weights, affinity),
    )


def test_a_negative_scale_spreads_attention_evenly() -> None:
    weights = torch.tensor([[0.2, 0.4], [0.6, 0.8]], dtype=torch.float64).view(1, 1, 2, 2)
    affinity = torch.rand(1, 1, 2, 2, dtype=torch.float64)
    refined = reweighting(-3.0, 0.0, 2.0)(weights, affinity)
    # Every entry of the attention is 1/4: a cell gains 2 * (sum of its column) / 4.
    expected = torch.tensor([[0.6, 1.0], [1.0, 1.4]], dtype=torch.float64).view(1, 1, 2, 2)
    torch.testing.assert_close(refined, expected)


def test_spatial_weights_come_from_mean_and_maximum_over_channels() -> None:
    attention = SpatialAttention(2).eval()
    with torch.no_grad():
        attention.features[0].weight.zero_()
        attention.features[0].bias.copy_(torch.tensor([1.0, 3.0]))
        attention.weights.weight.zero_()
        attention.weights.weight[0, 0, 3, 3] = 10.0  # mean, at the centre of the 7x7 window
        attention.weights.weight[0, 1, 3, 3] = 1.0  # maximum
        attention.weights.bias.fill_(-22.0)
        features, weights = attention(torch.randn(1, 2, 3, 4))
    assert weights.shape == (1, 1, 3, 4)
    torch.testing.assert_close(features[0, :, 0, 0], torch.tensor([1.0, 3.0]), rtol=1e-4, atol=1e-4)
    expected = torch.tensor(10.0 * 2.0 + 3.0 - 22.0).sigmoid().expand(1, 1, 3, 4)
    torch.testing.assert_close(weights, expected, rtol=1e-4, atol=1e-4)


def test_gradients_reach_every_parameter_but_the_unused_norm() -> None:
    module = MaskBranch().train()
    for fusion in (module.fuse_level2, module.fuse_level3):
        for reweight in (fusion.rgb_reweight, fusion.depth_reweight):
            torch.nn.init.ones_(reweight.scale.weight)  # or the ReLU behind it may be shut
            torch.nn.init.ones_(reweight.scale.bias)
    rgb, depth = (
        EncoderLevels(
            torch.randn(2, 256, 4, 4), torch.randn(2, 256, 2, 2), torch.empty(0), torch.empty(0)
        )
        for _ in "ab"
    )
    module(rgb, depth).square().sum().backward()
    untouched = [name for name, p in module.named_parameters() if p.grad is None]
    assert untouched == ["unused_norm.weight", "unused_norm.bias"]
    assert all(p.grad.isfinite().all() for p in module.parameters() if p.grad is not None)


def test_both_fusions_have_weights_of_their_own() -> None:
    module = MaskBranch()
    mine, yours = (
        {id(parameter) for parameter in fusion.parameters()}
        for fusion in (module.fuse_level2, module.fuse_level3)
    )
    assert len(mine) == len(yours) > 0
    assert not mine & yours
