from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from calibnet_core.config import DepthConfig, InputConfig
from calibnet_core.data.datasets import open_dataset
from calibnet_core.data.loading import (
    Batch,
    Draw,
    TrainingImages,
    TrainingOrder,
    collate,
    training_batches,
)
from calibnet_core.data.transforms import AugmentationConfig
from calibnet_core.structures import FrameError
from tests.support.datasets import write_rendered_set

WIDE, TALL = (48, 64), (64, 48)


def first(order: TrainingOrder, number: int) -> list[list[Draw]]:
    return list(itertools.islice(order, number))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rendered_set(tmp_path_factory.mktemp("data") / "tables", 5)


@pytest.fixture(scope="module")
def images(folder: Path) -> TrainingImages:
    return TrainingImages(
        open_dataset(folder),
        augmentation=AugmentationConfig(scale_jitter=(0.8, 1.5), color_jitter=0.3),
        input_config=InputConfig(shortest_edge=40, longest_edge=64),
        depth_config=DepthConfig(),
    )


@given(st.integers(1, 12), st.integers(1, 4), st.integers(0, 99))
def test_an_epoch_shows_every_image_once(num: int, batch_size: int, seed: int) -> None:
    order = TrainingOrder([WIDE] * num, batch_size=batch_size, seed=seed)
    # As many batches as make up whole epochs.
    draws = [draw for batch in first(order, num) for draw in batch]
    assert Counter(draw.image for draw in draws) == dict.fromkeys(range(num), batch_size)


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.integers(1, 4))
def test_a_batch_has_one_orientation(is_wide: list[bool], batch_size: int) -> None:
    sizes = [WIDE if wide else TALL for wide in is_wide]
    for batch in first(TrainingOrder(sizes, batch_size=batch_size, seed=0), 8):
        assert len({is_wide[draw.image] for draw in batch}) == 1
        assert len(batch) == batch_size


@given(st.integers(0, 30), st.integers(0, 99))
def test_a_later_start_continues_the_same_order(start: int, seed: int) -> None:
    sizes = [WIDE, TALL, WIDE, WIDE, TALL]
    whole = first(TrainingOrder(sizes, batch_size=2, seed=seed), start + 5)
    rest = first(TrainingOrder(sizes, batch_size=2, seed=seed, start=start), 5)
    assert rest == whole[start:]


def test_processes_share_every_batch() -> None:
    whole = first(TrainingOrder([WIDE] * 6, batch_size=4, seed=3), 9)
    shares = [
        first(TrainingOrder([WIDE] * 6, batch_size=4, seed=3, process=process, num_processes=2), 9)
        for process in range(2)
    ]
    assert [a + b for a, b in zip(*shares, strict=True)] == whole


def test_no_two_draws_vary_alike_and_another_seed_orders_otherwise() -> None:
    draws = [
        d for batch in first(TrainingOrder([WIDE] * 4, batch_size=2, seed=0), 50) for d in batch
    ]
    assert len({draw.seed for draw in draws}) == len(draws)
    others = first(TrainingOrder([WIDE] * 4, batch_size=2, seed=1), 50)
    assert [d for batch in others for d in batch] != draws


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ValueError, match=r"run\.batch_size a multiple"):
        TrainingOrder([WIDE], batch_size=3, seed=0, num_processes=2)
    with pytest.raises(ValueError, match="no image"):
        TrainingOrder([], batch_size=3, seed=0)


def test_an_image_is_padded_to_multiples_of_32_with_its_masks(images: TrainingImages) -> None:
    batch = images[Draw(0, 7)]
    height, width = batch.sizes[0]
    assert batch.rgb.shape == batch.depth.shape == (1, 3, 64, 64)
    assert (height, width) == (40, 53)
    assert batch.masks[0].shape[1:] == (64, 64)
    assert len(batch.masks[0]) > 0
    for tensor in (batch.rgb[0], batch.depth[0], batch.masks[0]):
        assert not tensor[:, height:].any()
        assert not tensor[..., width:].any()
    assert batch.names == ["table_000.png"]


def test_variation_leaves_the_global_generator_alone(images: TrainingImages) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    _ = images[Draw(1, 5)]
    batches_of(images, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_collating_puts_images_on_one_canvas() -> None:
    def one(height: int, width: int, objects: int) -> Batch:
        return Batch(
            torch.ones(1, 3, height, width),
            torch.ones(1, 3, height, width),
            [torch.ones(objects, height, width, dtype=torch.bool)],
            [(height, width)],
            [f"{height}x{width}"],
        )

    batch = collate([one(32, 64, 2), one(64, 32, 0)])
    assert batch.canvas == (64, 64)
    assert len(batch) == 2
    assert [tuple(masks.shape) for masks in batch.masks] == [(2, 64, 64), (0, 64, 64)]
    assert batch.rgb[0].sum() == batch.depth[1].sum() == 3 * 32 * 64
    assert not batch.masks[0][:, 32:].any()
    assert batch.sizes == [(32, 64), (64, 32)]


def batches_of(images: TrainingImages, num_workers: int) -> list[Batch]:
    order = TrainingOrder([WIDE] * 5, batch_size=2, seed=4)
    batches = training_batches(images, order, num_workers=num_workers, pin_memory=False)
    return list(itertools.islice(batches, 4))


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing(images: TrainingImages) -> None:
    for one, other in zip(batches_of(images, 0), batches_of(images, 2), strict=True):
        assert one.names == other.names
        assert torch.equal(one.rgb, other.rgb)
        assert torch.equal(one.depth, other.depth)
        assert all(map(torch.equal, one.masks, other.masks))


@pytest.mark.slow
def test_an_unreadable_image_is_named(folder: Path, tmp_path: Path) -> None:
    broken = write_rendered_set(tmp_path / "broken", 1)
    file = broken / "imgs" / "table_000.png"
    file.write_bytes(file.read_bytes()[:100])
    images = TrainingImages(
        open_dataset(broken),
        augmentation=AugmentationConfig(),
        input_config=InputConfig(shortest_edge=40, longest_edge=64),
        depth_config=DepthConfig(),
    )
    with pytest.raises(FrameError, match=r"table_000\.png"):
        _ = images[Draw(0, 0)]
    for workers in (0, 1):
        batches = training_batches(
            images,
            TrainingOrder([WIDE], batch_size=1, seed=0),
            num_workers=workers,
            pin_memory=False,
        )
        with pytest.raises(FrameError, match=r"table_000\.png") as caught:
            next(batches)
        assert "Traceback" not in str(caught.value)
