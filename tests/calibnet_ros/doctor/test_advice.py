"""The lines that start the node have just the arguments that are needed."""

from __future__ import annotations

from dataclasses import replace

from calibnet_ros.doctor.advice import launch_line, node_lines
from calibnet_ros.doctor.choosing import choose
from calibnet_ros.doctor.facts import COMPRESSED_IMAGE, Choice, Request
from calibnet_ros.startup import PERCEPTION_ARGUMENTS
from tests.calibnet_ros.doctor.sound import PRESET, WEIGHTS, facts, stream, topic

LAUNCH = "ros2 launch calibnet_ros perception.launch.py"
OWN = Choice(color="/cam/rgb", depth="/cam/depth", info="/cam/info")


def test_a_preset_needs_nothing_but_its_name() -> None:
    given = facts(weights=None)
    assert launch_line(given) == f"{LAUNCH} camera:=realsense"
    assert node_lines(given) == ("perception_node --camera realsense",)


def test_a_namespace_and_weights_are_added_where_there_are_any() -> None:
    choice = replace(facts().inputs.choice, camera_namespace="/left")
    given = facts(choice=choice, weights=replace(WEIGHTS, path="my weights.safetensors"))
    assert launch_line(given) == (
        f"{LAUNCH} camera:=realsense camera_namespace:=/left weights:='my weights.safetensors'"
    )
    assert node_lines(given) == (
        "perception_node --camera realsense --camera-namespace /left "
        "--ros-args -p model.weights:='my weights.safetensors'",
    )


def test_topics_of_no_preset_are_named_one_by_one() -> None:
    given = facts(choice=OWN, weights=None)
    assert launch_line(given) == (
        f"{LAUNCH} color_topic:=/cam/rgb depth_topic:=/cam/depth info_topic:=/cam/info"
    )
    assert node_lines(given) == (
        "perception_node --ros-args -r color/image:=/cam/rgb -r depth/image:=/cam/depth "
        "-r color/camera_info:=/cam/info",
    )


def test_a_recording_is_played_by_the_launch_file_or_in_a_second_terminal() -> None:
    request = Request(color_topic=PRESET.color)
    given = facts(source="my bag", request=request, weights=None)
    assert launch_line(given) == f"{LAUNCH} camera:=realsense bag:='my bag'"
    assert node_lines(given) == (
        "perception_node --camera realsense",
        f"play_bag 'my bag' --color-topic {PRESET.color}",
    )


def test_simulated_time_is_used_where_the_images_follow_it() -> None:
    past = {"color": stream("rgb8", ages_s=[8e7])}
    given = facts(streams=past, clock_publishers=("/player",), weights=None)
    assert launch_line(given).endswith("camera:=realsense use_sim_time:=true")
    assert node_lines(given)[0].endswith("--ros-args -p use_sim_time:=true")


def test_compressed_transports_go_to_a_parameter_file_or_the_command_line() -> None:
    topics = [topic(f"{PRESET.color}/compressed", COMPRESSED_IMAGE), topic(PRESET.depth)]
    given = facts(choice=choose(topics, Request()), weights=None)
    assert "params_file:=FILE  # FILE sets input.color_transport: compressed" in launch_line(given)
    assert node_lines(given)[0].endswith("--ros-args -p input.color_transport:=compressed")


def test_with_nothing_found_the_line_is_that_of_the_camera_asked_for_or_of_the_default() -> None:
    nothing = facts(choice=Choice(), weights=None)
    assert launch_line(nothing) == f"{LAUNCH} camera:=realsense"
    asked = facts(choice=Choice(), request=Request(camera="orbbec"), weights=None)
    assert launch_line(asked) == f"{LAUNCH} camera:=orbbec"


def test_every_argument_of_the_launch_line_is_one_of_the_launch_file() -> None:
    past = {"color": stream("rgb8", ages_s=[8e7])}
    camera = replace(facts().inputs.choice, camera_namespace="/left", color_transport="compressed")
    lines = [
        launch_line(facts(choice=camera, streams=past, clock_publishers=("/player",))),
        launch_line(facts(choice=OWN, source="my_bag")),
    ]
    used = {word.partition(":=")[0] for line in lines for word in line.split() if ":=" in word}
    assert len(used) == 9
    assert used <= {argument.name for argument in PERCEPTION_ARGUMENTS}
