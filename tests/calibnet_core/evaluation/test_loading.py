from __future__ import annotations

import pytest

from calibnet_core.evaluation.loading import Failure, load_samples
from tests.calibnet_core.evaluation.stand_ins import MemoryDataset, random_dataset


class Unreachable(MemoryDataset):
    """Its disk has gone away."""

    def load(self, index: int):
        raise PermissionError(13, "Permission denied", "imgs/drawer.png")


@pytest.mark.parametrize("num_workers", [0, 2])
def test_images_come_in_order_and_failures_in_their_place(num_workers: int) -> None:
    dataset = random_dataset(0)
    dataset.broken = {1: "imgs/a.png: is damaged", 5: "imgs/b.png: there is no such file"}
    items = list(load_samples(dataset, num_workers=num_workers))
    assert [item.image_id for item in items] == list(dataset.image_ids)
    failures = {i: item.reason for i, item in enumerate(items) if isinstance(item, Failure)}
    assert failures == dataset.broken
    assert (items[0].masks == dataset.samples[0].masks).all()
    assert (items[0].frame.rgb == dataset.samples[0].frame.rgb).all()


def test_faults_of_the_file_system_are_failures_too() -> None:
    (item,) = load_samples(Unreachable(random_dataset(0, num_images=1).samples))
    assert isinstance(item, Failure)
    assert "imgs/drawer.png" in item.reason


def test_a_limit_beyond_the_end_reads_everything() -> None:
    dataset = random_dataset(0, num_images=3)
    assert len(list(load_samples(dataset, limit=9))) == 3
    assert len(list(load_samples(dataset, limit=2))) == 2
