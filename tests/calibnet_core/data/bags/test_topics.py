from __future__ import annotations

import pytest

from calibnet_core.data.bags.topics import (
    BagError,
    BagTopic,
    ChosenTopics,
    choose_topics,
    raw_name,
)

IMAGE, INFO = "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo"


def image(name: str, encoding: str) -> BagTopic:
    return BagTopic(name, IMAGE, 5, encoding)


def compressed(name: str, format: str, num_messages: int = 5) -> BagTopic:
    return BagTopic(name, "sensor_msgs/msg/CompressedImage", num_messages, format)


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


RGB_JPEG, DEPTH_PNG = "rgb8; jpeg compressed bgr8", "16UC1; compressedDepth png"
COMPRESSED = [
    compressed("/cam/color/image_raw/compressed", RGB_JPEG),
    compressed("/cam/color/image_raw/compressedDepth", "", num_messages=0),
    compressed("/cam/depth/image_rect_raw/compressedDepth", "16UC1"),
    compressed("/cam/aligned_depth_to_color/image_raw/compressed", "16UC1; png compressed "),
    compressed("/cam/aligned_depth_to_color/image_raw/compressedDepth", DEPTH_PNG),
    compressed("/cam/infra1/image_rect_raw/compressed", "mono8; jpeg compressed "),
    compressed("/calibnet/label_image/compressed", "mono16; png compressed "),
    info("/cam/color/camera_info"),
    info("/cam/aligned_depth_to_color/camera_info"),
]
CHOSEN_COMPRESSED = ChosenTopics(
    "/cam/color/image_raw/compressed",
    "/cam/aligned_depth_to_color/image_raw/compressedDepth",
    "/cam/color/camera_info",
    "compressed",
    "compressedDepth",
)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"color": "/cam/color/image_raw", "depth": "/cam/aligned_depth_to_color/image_raw"},
        {"color": "/cam/color/image_raw/compressed"},
    ],
    ids=["found", "by the raw names", "by its own name"],
)
def test_compressed_topics_are_found_with_their_transports(given: dict[str, str]) -> None:
    assert choose_topics(COMPRESSED, **given) == CHOSEN_COMPRESSED
    assert choose_topics(COMPRESSED[::-1], **given) == CHOSEN_COMPRESSED


@pytest.mark.parametrize("given", [{}, {"color": "/cam/color/image_raw"}])
def test_a_raw_topic_wins_unless_nothing_was_recorded_on_it(given: dict[str, str]) -> None:
    raw = image("/cam/color/image_raw", "bgr8")
    chosen = choose_topics([*COMPRESSED, raw], **given)
    assert (chosen.color, chosen.color_transport) == (raw.name, "raw")
    advertised = BagTopic(raw.name, IMAGE, 0)
    assert choose_topics([*COMPRESSED, advertised], **given) == CHOSEN_COMPRESSED


def test_registered_depth_wins_over_raw_depth_that_is_not() -> None:
    raw = image("/cam/depth/image_rect_raw", "16UC1")
    assert choose_topics([raw, *COMPRESSED]) == CHOSEN_COMPRESSED


def test_png_depth_of_the_general_transport_is_read_where_there_is_no_better() -> None:
    chosen = choose_topics(COMPRESSED[:1] + COMPRESSED[3:4])
    assert chosen.depth == "/cam/aligned_depth_to_color/image_raw/compressed"
    assert chosen.depth_transport == "compressedDepth"


def test_a_format_that_tells_little_is_judged_by_the_name() -> None:
    topics = [compressed("/a/color/compressed", "jpeg"), compressed("/a/depth/compressed", "png")]
    chosen = choose_topics(topics)
    assert (chosen.color, chosen.depth) == ("/a/color/compressed", "/a/depth/compressed")


@pytest.mark.parametrize("format", ["16UC1; jpeg compressed mono16", "jpeg"])
@pytest.mark.parametrize("depth", [None, "/a/depth/compressed", "/a/depth"])
def test_jpeg_depth_is_refused(format: str, depth: str | None) -> None:
    topics = [image("/a/color", "rgb8"), compressed("/a/depth/compressed", format)]
    with pytest.raises(
        BagError, match=r"'/a/depth/compressed' holds depth as JPEG.*record the raw"
    ):
        choose_topics(topics, depth=depth)


def test_the_raw_name_of_a_topic() -> None:
    assert raw_name("/a/depth/compressedDepth") == raw_name("/a/depth/compressed") == "/a/depth"
    assert raw_name("/a/depth_compressed") == "/a/depth_compressed"


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
