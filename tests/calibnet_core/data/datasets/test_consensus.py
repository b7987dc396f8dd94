from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from calibnet_core.data.datasets.build_settings import BuildSettings
from calibnet_core.data.datasets.consensus import agree
from calibnet_core.data.datasets.mask_folders import NamedMask

NOWHERE = Path("nowhere")
SETTINGS = BuildSettings(images=NOWHERE, depth=NOWHERE, masks=(NOWHERE,), min_iou=0.2)

STACKS = st.lists(
    hnp.arrays(np.bool_, st.tuples(st.integers(0, 3), st.just(5), st.just(6))),
    min_size=1,
    max_size=4,
)


def drawn(stacks: list[np.ndarray]) -> list[list[NamedMask]]:
    return [
        [NamedMask(name=f"{a}/{i}", mask=mask) for i, mask in enumerate(stack)]
        for a, stack in enumerate(stacks)
    ]


@given(stacks=STACKS)
def test_every_mask_is_kept_or_dropped_and_instances_share_no_pixel(
    stacks: list[np.ndarray],
) -> None:
    masks, dropped = agree("cup", drawn(stacks), None, SETTINGS)
    assert all(mask.any() for mask in masks)
    if masks:
        assert np.sum(masks, axis=0).max() == 1
    names = [name for one in dropped for name in one.masks]
    assert len(set(names)) == len(names)
    total = sum(len(stack) for stack in stacks)
    # What is not dropped took part in an instance, and every instance has a part of its own.
    assert len(masks) <= total - len(names)
    assert (total == len(names)) == (not masks)


@given(stacks=STACKS, region=hnp.arrays(np.bool_, (5, 6)))
def test_regions_only_take_instances_away(stacks: list[np.ndarray], region: np.ndarray) -> None:
    free, _ = agree("cup", drawn(stacks), None, SETTINGS)
    bound, _ = agree("cup", drawn(stacks), region, SETTINGS)
    assert len(bound) <= len(free)


def test_an_instance_without_any_common_pixel_is_dropped() -> None:
    # Each pair overlaps, but no pixel is in three of the five.
    rows = [[1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 1, 1, 0]]
    stacks = [np.array([[row]], bool) for row in rows] + [np.zeros((0, 1, 5), bool)] * 2
    settings = BuildSettings(images=NOWHERE, depth=NOWHERE, masks=(NOWHERE,), min_iou=0.1)
    masks, dropped = agree("cup", drawn(stacks), None, settings)
    assert masks == []
    assert dropped[0].reason == "3 of 5 annotators marked it, but no pixel has a majority"


def test_a_dropped_instance_gives_its_pixels_back() -> None:
    small, large = np.zeros((5, 6), bool), np.ones((5, 6), bool)
    small[0, :2] = True
    region = ~small
    ((mask,), (dropped,)) = agree("cup", drawn([np.array([small, large])]), region, SETTINGS)
    np.testing.assert_array_equal(mask, large)
    assert dropped.kind == "outside the region"
