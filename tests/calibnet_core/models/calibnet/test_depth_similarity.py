from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from calibnet_core.models.calibnet.depth_similarity import (
    BorrowedSimilarity,
    DepthSimilarity,
    FullTrust,
)


def similarity(channels: int = 4) -> DepthSimilarity:
    """Both modalities projected alike."""
    torch.manual_seed(0)
    module = DepthSimilarity(channels)
    module.project_depth.load_state_dict(module.project_rgb.state_dict())
    return module


def test_it_is_one_minus_half_the_cosine_distance_of_the_projections() -> None:
    torch.manual_seed(1)
    module = DepthSimilarity(3)
    rgb, depth = torch.randn(2, 3, 2, 4), torch.randn(2, 3, 2, 4)
    answer = module(rgb, depth)
    assert answer.shape == (2, 1, 1, 1)
    for image in range(2):
        projected = []
        for convolution, features in ((module.project_rgb, rgb), (module.project_depth, depth)):
            weight = convolution.weight.detach().double().numpy().reshape(3)
            bias = convolution.bias.detach().double().numpy()
            maps = features[image].double().numpy()
            projected.append(
                np.array([weight @ maps[:, i, j] + bias[0] for i, j in np.ndindex(2, 4)])
            )
        a, b = projected
        cosine = (a @ b) / np.sqrt((a @ a) * (b @ b))
        assert answer[image].item() == pytest.approx(1 - (1 - cosine) / 2, abs=1e-6)


def test_equal_features_are_fully_trusted() -> None:
    features = torch.randn(3, 4, 5, 6)
    torch.testing.assert_close(similarity()(features, features), torch.ones(3, 1, 1, 1))


def test_opposite_features_are_not_trusted_at_all() -> None:
    module = similarity()
    for projection in (module.project_rgb, module.project_depth):
        torch.nn.init.zeros_(projection.bias)
    features = torch.randn(3, 4, 5, 6)
    torch.testing.assert_close(module(features, -features), torch.zeros(3, 1, 1, 1))


def test_orthogonal_features_are_half_trusted() -> None:
    module = similarity(1)
    for projection in (module.project_rgb, module.project_depth):
        torch.nn.init.ones_(projection.weight)
        torch.nn.init.zeros_(projection.bias)
    rgb, depth = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[0.0, 3.0]]]])
    assert module(rgb, depth).item() == pytest.approx(0.5)


def test_features_that_project_to_nothing_are_half_trusted() -> None:
    module = similarity()
    for projection in (module.project_rgb, module.project_depth):
        torch.nn.init.zeros_(projection.bias)
    answer = module(torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2))
    assert answer.item() == pytest.approx(0.5)


@given(
    seed=st.integers(0, 2**31),
    scale=st.floats(1e-3, 1e3),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
)
def test_it_lies_between_0_and_1_whatever_the_features(
    seed: int, scale: float, height: int, width: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    rgb, depth = (scale * torch.randn(2, 4, height, width, generator=generator) for _ in "ab")
    torch.manual_seed(seed)
    answer = DepthSimilarity(4)(rgb, depth)
    assert (answer >= -1e-6).all()
    assert (answer <= 1 + 1e-6).all()


def test_gradients_reach_both_projections() -> None:
    module = DepthSimilarity(4)
    module(torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in module.parameters())


def test_a_borrowed_assessment_is_its_owners() -> None:
    owner = DepthSimilarity(4)
    borrowed = BorrowedSimilarity(owner)
    rgb, depth = torch.randn(2, 2, 4, 3, 5)
    assert torch.equal(borrowed(rgb, depth), owner(rgb, depth))
    torch.nn.init.ones_(owner.project_rgb.weight)
    assert torch.equal(borrowed(rgb, depth), owner(rgb, depth))
    assert borrowed.state_dict() == {}
    assert list(borrowed.parameters()) == []


def test_a_copy_of_both_is_tied_as_the_originals_are() -> None:
    owner = DepthSimilarity(4)
    pair = copy.deepcopy(torch.nn.ModuleList([owner, BorrowedSimilarity(owner)]))
    assert isinstance(pair[1], BorrowedSimilarity)
    assert pair[1].owner is pair[0]
    assert pair[0] is not owner


def test_full_trust_is_a_factor_of_1_for_every_image() -> None:
    depth = torch.randn(3, 4, 2, 2, dtype=torch.float64)
    trust = FullTrust()(depth, depth)
    assert (trust.shape, trust.dtype) == ((3, 1, 1, 1), torch.float64)
    assert bool((trust == 1).all())
