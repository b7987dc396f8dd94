from __future__ import annotations

import pytest

from calibnet_core.data.bags.topics import BagError, BagTopic, ChosenTopics, choose_topics

IMAGE, INFO = "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo"


def image(name: str, encoding: str) -> BagTopic:
    return BagTopic(name, IMAGE, 5, encoding)


def info(name: str) -> BagTopic:
    return BagTopic(name, INFO, 5)


REALSENSE = [
    image("/camera/camera/color/image_raw", "rgb8"),
    image("/camera/camera/depth/image_rect_raw", "16UC1"),
    image("/camera/camera/aligned_depth_to_color/image_raw", "16UC1"),
    image("/camera/camera/infra1/image_rect_raw", "mono8"),
    info("/camera/camera/color/camera_info"),
    info("/camera/camera/depth/camera_info"),
]
AZURE = [
    image("/rgb/image_raw", "bgra8"),
    image("/depth_to_rgb/image_raw", "32FC1"),
    image("/depth/image_raw", "32FC1"),
    info("/rgb/camera_info"),
]
ORBBEC = [
    image("/camera/color/image_raw", "rgb8"),
    image("/camera/depth/image_raw", "16UC1"),
    image("/ground_truth/label_image", "mono16"),
    info("/camera/color/camera_info"),
]


@pytest.mark.parametrize(
    ("topics", "expected"),
    [
        (
            REALSENSE,
            ChosenTopics(
                "/camera/camera/color/image_raw",
                "/camera/camera/aligned_depth_to_color/image_raw",
                "/camera/camera/color/camera_info",
            ),
        ),
        (AZURE, ChosenTopics("/rgb/image_raw", "/depth_to_rgb/image_raw", "/rgb/camera_info")),
        (
            ORBBEC,
            ChosenTopics(
                "/camera/color/image_raw", "/camera/depth/image_raw", "/camera/color/camera_info"
            ),
        ),
    ],
    ids=["realsense", "azure", "orbbec"],
)
def test_the_topics_of_common_cameras_are_found(
    topics: list[BagTopic], expected: ChosenTopics
) -> None:
    assert choose_topics(topics) == expected
    assert choose_topics(topics[::-1]) == expected


def test_given_topics_win_over_found_ones() -> None:
    chosen = choose_topics(
        AZURE, depth="/depth/image_raw", color="/rgb/image_raw", info="/rgb/camera_info"
    )
    assert chosen.depth == "/depth/image_raw"


def test_mono16_is_depth_only_under_a_name_that_says_so() -> None:
    topics = [image("/color", "rgb8"), image("/depth", "mono16"), image("/labels", "mono16")]
    assert choose_topics(topics).depth == "/depth"


def test_a_colour_topic_called_so_is_preferred_to_other_pictures() -> None:
    topics = [image("/rgb/image", "rgb8"), image("/overlay", "bgr8"), image("/depth", "16UC1")]
    assert choose_topics(topics).color == "/rgb/image"
    assert choose_topics(topics[1:]).color == "/overlay"


def test_a_single_camera_info_elsewhere_is_taken_and_several_are_not() -> None:
    images = [image("/a/rgb", "rgb8"), image("/a/depth", "16UC1")]
    assert choose_topics([*images, info("/b/camera_info")]).info == "/b/camera_info"
    assert choose_topics([*images, info("/b/camera_info"), info("/c/camera_info")]).info is None
    assert choose_topics(images).info is None


def test_absent_depth_lists_what_there_is() -> None:
    with pytest.raises(BagError, match="depth_topic") as caught:
        choose_topics([image("/color/image", "rgb8")])
    assert "/color/image  sensor_msgs/Image rgb8, 5 messages" in str(caught.value)


def test_ambiguous_topics_are_named() -> None:
    twins = [image("/left/rgb", "rgb8"), image("/right/rgb", "rgb8"), image("/depth", "16UC1")]
    with pytest.raises(BagError, match=r"/left/rgb, /right/rgb; choose one with color_topic"):
        choose_topics(twins)


def test_compressed_images_are_refused_by_name() -> None:
    compressed = BagTopic("/color/compressed", "sensor_msgs/msg/CompressedImage", 5)
    with pytest.raises(BagError, match=r"'/color/compressed' holds compressed images.*republish"):
        choose_topics([compressed, image("/depth", "16UC1")], color="/color/compressed")
    with pytest.raises(BagError, match="Compressed images are not read"):
        choose_topics([compressed, image("/depth", "16UC1")])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"color": "/nowhere"}, "'/nowhere' is not in the recording"),
        ({"color": "/rgb/camera_info"}, "expected sensor_msgs/msg/Image"),
        ({"info": "/rgb/image_raw"}, "expected sensor_msgs/msg/CameraInfo"),
        ({"color": "/depth/image_raw", "depth": "/depth/image_raw"}, "colour and depth are both"),
    ],
)
def test_given_topics_are_checked(given: dict[str, str], message: str) -> None:
    with pytest.raises(BagError, match=message):
        choose_topics(AZURE, **given)


def test_a_recording_without_topics_says_so() -> None:
    with pytest.raises(BagError, match="holds no topics"):
        choose_topics([])
