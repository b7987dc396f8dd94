from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibnet_core.data.bags import BagError, read_labels, write_rgbd_bag

TOPIC = "/truth/labels"
STAMP_NS = 1_700_000_000_123_456_789
LABELS = np.array([[0, 1, 1], [0, 300, 65535]], np.uint16)


@settings(max_examples=15, deadline=None)
@given(
    storage=st.sampled_from(["mcap", "sqlite3"]),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    seed=st.integers(0, 99),
)
def test_labels_come_back_under_the_stamps_of_their_frames(
    tmp_path_factory, make_frames, storage, height, width, seed
) -> None:
    path = tmp_path_factory.mktemp("bags") / "bag"
    frames = make_frames(3, (height, width), seed)
    rng = np.random.default_rng(seed)
    labels = [rng.integers(0, 65536, (height, width)).astype(np.uint16) for _ in frames]
    # Late depth must not matter: labels belong to the colour images.
    write_rgbd_bag(path, frames, labels=labels, storage=storage, depth_offset_ns=4_000_000)
    found = list(read_labels(path))
    assert [stamp_ns for stamp_ns, _ in found] == [frame.stamp_ns for frame in frames]
    for (_, image), label in zip(found, labels, strict=True):
        assert image.dtype == np.uint16
        np.testing.assert_array_equal(image, label)


def test_another_topic_and_eight_bits_are_read(tmp_path, messages) -> None:
    narrow = (LABELS % 256).astype(np.uint8)
    wide = messages.image(STAMP_NS, LABELS, "mono16")
    path = messages.write(
        tmp_path / "bag",
        [
            (TOPIC, "Image", 5, wide),
            ("/other", "Image", 6, wide),
            (TOPIC, "Image", 7, messages.image(STAMP_NS + 1, narrow, "mono8")),
        ],
    )
    (first_ns, first), (second_ns, second) = read_labels(path, TOPIC)
    assert (first_ns, second_ns) == (STAMP_NS, STAMP_NS + 1)
    np.testing.assert_array_equal(first, LABELS)
    np.testing.assert_array_equal(second, narrow)
    assert second.dtype == np.uint16


def unreadable(messages) -> dict[str, tuple[bytes, str]]:
    """What the second message of the topic is -> words of the error."""
    sound = messages.image(STAMP_NS, LABELS, "mono16")
    color = np.zeros((2, 3, 3), np.uint8)
    return {
        "cut header": (sound[:9], "is damaged"),
        "cut off": (sound[:40], "is damaged"),
        "too few pixels": (messages.image(STAMP_NS, LABELS, "mono16", num_bytes=5), "is damaged"),
        "no text": (sound.replace(b"mono16", b"\xff\xfe\xff\xfe16"), "is damaged"),
        "colour": (messages.image(STAMP_NS, color, "rgb8"), "holds rgb8; expected mono16"),
        "metres": (
            messages.image(STAMP_NS, color[..., 0].astype(np.float32), "32FC1"),
            "holds 32FC1; expected mono16",
        ),
    }


@pytest.mark.parametrize(
    "case", ["cut header", "cut off", "too few pixels", "no text", "colour", "metres"]
)
def test_what_is_no_label_image_ends_reading_with_its_topic(tmp_path, messages, case) -> None:
    data, words = unreadable(messages)[case]
    sound = messages.image(STAMP_NS, LABELS, "mono16")
    recorded = [(TOPIC, "Image", 1, sound), (TOPIC, "Image", 2, data)]
    labels = read_labels(messages.write(tmp_path / "bag", recorded), TOPIC)
    assert next(labels)[0] == STAMP_NS
    with pytest.raises(BagError, match=f"'{TOPIC}'") as caught:
        next(labels)
    assert words in str(caught.value)
    assert str(tmp_path / "bag") in str(caught.value)


def test_a_recording_without_labels_names_the_topic_that_is_missed(
    tmp_path: Path, make_frames
) -> None:
    write_rgbd_bag(tmp_path / "bag", make_frames(1))
    with pytest.raises(BagError, match="has no label images on '/ground_truth/label_image'"):
        list(read_labels(tmp_path / "bag"))
    with pytest.raises(BagError, match="no such file or folder"):
        list(read_labels(tmp_path / "nothing"))
