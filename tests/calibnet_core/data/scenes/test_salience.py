from __future__ import annotations

import numpy as np

from calibnet_core.data.scenes.salience import FARTHEST_M, SMALLEST_SHARE, salient_labels

SIZE = (100, 200)
NEAR = np.full(SIZE, 1.0, np.float32)


def labels_with(**areas: int) -> np.ndarray:
    """Things of so many pixels each; `t7=30` is thing 7."""
    labels = np.zeros(SIZE, np.int32)
    first = 0
    for name, area in areas.items():
        labels.ravel()[first : first + area] = int(name[1:])
        first += area
    return labels


def test_the_room_does_not_count() -> None:
    assert not salient_labels(np.zeros(SIZE, np.int32), NEAR).any()


def test_a_thing_counts_from_its_smallest_size_on_and_keeps_its_label() -> None:
    least = round(SMALLEST_SHARE * SIZE[0] * SIZE[1])
    labels = labels_with(t3=least, t9=least - 1)
    found = salient_labels(labels, NEAR)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(np.unique(found), [0, 3])
    np.testing.assert_array_equal(found == 3, labels == 3)


def test_a_thing_counts_up_to_the_farthest_depth() -> None:
    labels = labels_with(t1=500, t2=500)
    depth = np.where(labels == 2, FARTHEST_M + 0.01, FARTHEST_M).astype(np.float32)
    np.testing.assert_array_equal(np.unique(salient_labels(labels, depth)), [0, 1])
