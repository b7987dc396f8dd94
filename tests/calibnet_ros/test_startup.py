"""What the launch files do, tested without launch."""

from __future__ import annotations

import ast
import re

import pytest
import yaml

from calibnet_ros import startup
from calibnet_ros.camera_presets import PRESETS, remappings
from calibnet_ros.parameter_schema import SCHEMA
from tests.support.shared import REPOSITORY

ALL_ARGUMENTS = {
    "perception": startup.PERCEPTION_ARGUMENTS,
    "multi_camera": startup.MULTI_CAMERA_ARGUMENTS,
    "evaluate": startup.EVALUATE_ARGUMENTS,
}
TWO_CAMERAS = startup.parse_cameras("front=realsense@/front, back=orbbec")


def values(name: str = "perception", **given: str) -> dict[str, str]:
    """A launch file's values: what is given, and the defaults of the rest."""
    defaults = {argument.name: argument.default or "" for argument in ALL_ARGUMENTS[name]}
    assert given.keys() <= defaults.keys()
    return defaults | given


# --- arguments --------------------------------------------------------------------------------


def test_the_perception_file_has_the_arguments_of_its_specification_and_defaults() -> None:
    defaults = {a.name: a.default for a in startup.PERCEPTION_ARGUMENTS}
    assert list(defaults) == [
        "camera",
        "camera_namespace",
        "start_driver",
        "color_topic",
        "depth_topic",
        "info_topic",
        "params_file",
        "namespace",
        "node_name",
        "device",
        "weights",
        "score_threshold",
        "overlay",
        "geometry",
        "autostart",
        "lifecycle_manager",
        "use_sim_time",
        "rviz",
        "foxglove",
        "bag",
        "bag_rate",
        "bag_loop",
        "log_level",
        "respawn",
    ]
    on = {name for name, default in defaults.items() if default == "true"}
    off = {name for name, default in defaults.items() if default == "false"}
    assert on == {"overlay", "geometry", "autostart", "respawn"}
    assert off == {
        "start_driver",
        "lifecycle_manager",
        "use_sim_time",
        "rviz",
        "foxglove",
        "bag_loop",
    }


@pytest.mark.parametrize("name", ALL_ARGUMENTS)
def test_every_argument_is_described_and_defaults_to_one_of_its_choices(name: str) -> None:
    arguments = ALL_ARGUMENTS[name]
    assert len({argument.name for argument in arguments}) == len(arguments)
    for argument in arguments:
        assert argument.help.endswith(".")
        assert not argument.choices or argument.default in argument.choices


@pytest.mark.parametrize("name", ALL_ARGUMENTS)
def test_every_launch_file_takes_its_own_table_and_only_wraps(name: str) -> None:
    tree = ast.parse((REPOSITORY / f"launch/{name}.launch.py").read_text())
    table = f"{name.upper()}_ARGUMENTS"
    names = [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    assert names.count(table) == 2  # once declared, once read
    assert not any(isinstance(node, (ast.If, ast.For)) for node in ast.walk(tree))


# --- parameters -------------------------------------------------------------------------------


def test_without_arguments_the_parameter_file_decides() -> None:
    assert startup.node_parameters(values()) == {"use_sim_time": False, "autostart": True}
    assert startup.parameter_file(values()).name == "perception.yaml"
    assert startup.parameter_file(values()).is_file()
    assert str(startup.parameter_file(values(params_file="/my/p.yaml"))) == "/my/p.yaml"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"device": "cuda:1"}, {"model.device": "cuda:1"}),
        ({"weights": "/w.safetensors"}, {"model.weights": "/w.safetensors"}),
        ({"score_threshold": "0.25"}, {"detection.score_threshold": 0.25}),
        ({"geometry": "false"}, {"geometry.enable": False}),
        ({"overlay": "false"}, {"output.overlay": False}),
        ({"autostart": "false"}, {"autostart": False}),
        ({"lifecycle_manager": "true"}, {"autostart": False}),
        ({"use_sim_time": "true"}, {"use_sim_time": True}),
        ({"bag": "recording.mcap"}, {"use_sim_time": True}),
    ],
)
def test_each_argument_sets_its_parameter(given: dict, expected: dict) -> None:
    common = {"use_sim_time": False, "autostart": True}
    assert startup.node_parameters(values(**given)) == common | expected


def test_several_cameras_are_named_in_the_parameters() -> None:
    parameters = startup.node_parameters(values("multi_camera"), TWO_CAMERAS)
    assert parameters["cameras"] == ["front", "back"]


@pytest.mark.parametrize(
    "name",
    [
        "model.device",
        "model.weights",
        "detection.score_threshold",
        "geometry.enable",
        "autostart",
        "cameras",
        "output.overlay",
    ],
)
def test_the_node_has_the_parameters_that_are_set(name: str) -> None:
    changing = {"device": "cpu", "weights": "w", "score_threshold": "0.5"}
    switched = {"overlay": "false", "geometry": "false"}
    given = values("multi_camera", **changing, **switched)
    assert name in startup.node_parameters(given, TWO_CAMERAS)
    assert name in {row.name for row in SCHEMA}


# --- topics -----------------------------------------------------------------------------------


@pytest.mark.parametrize("camera", PRESETS)
def test_one_camera_reads_what_its_preset_says(camera: str) -> None:
    given = values(camera=camera, camera_namespace="/left", depth_topic="/d", info_topic="/i")
    expected = remappings(camera, camera_namespace="/left", depth_topic="/d", info_topic="/i")
    assert startup.camera_remappings(given) == expected
    assert dict(startup.camera_remappings(values(color_topic="/c")))["color/image"] == "/c"


def test_several_cameras_read_what_their_presets_say_under_their_names() -> None:
    assert [vars(camera) for camera in TWO_CAMERAS] == [
        {"name": "front", "preset": "realsense", "namespace": "/front"},
        {"name": "back", "preset": "orbbec", "namespace": ""},
    ]
    rules = dict(startup.multi_camera_remappings(TWO_CAMERAS))
    assert len(rules) == 8
    assert rules["front/color/image"] == "/front/camera/camera/color/image_raw"
    assert rules["back/color/image"] == "/camera/color/image_raw"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "part ''; write NAME=PRESET"),
        ("front", "part 'front'; write NAME=PRESET"),
        ("front=realsense,", "part ''; write"),
        ("1st=realsense", "part '1st=realsense'; write"),
        ("a/b=realsense", "name of letters, digits and _"),
        ("front=kinect", "unknown preset 'kinect' for 'front'; use one of realsense"),
        ("a=realsense@/a, a=realsense@/b", "name 'a' twice"),
        ("a=realsense, b=realsense", "'a' and 'b' would both read /camera/camera/color"),
    ],
)
def test_a_wrong_list_of_cameras_is_refused_in_words(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        startup.parse_cameras(text)


@pytest.mark.parametrize(
    ("given", "cameras", "node"),
    [
        ({"node_name": "eyes"}, (), "/eyes"),
        ({"namespace": "robot"}, (), "/robot/calibnet"),
        ({"namespace": "/robot/", "node_name": "eyes"}, (), "/robot/eyes"),
        ({}, TWO_CAMERAS, "/calibnet/front"),
    ],
)
def test_rviz_is_led_to_the_outputs_wherever_they_are(
    given: dict, cameras: tuple, node: str
) -> None:
    rules = dict(startup.viewer_remappings(values(**given), cameras))
    assert rules["/calibnet/overlay"] == f"{node}/overlay"
    assert startup.viewer_remappings(values(), ()) == []


def test_every_output_that_rviz_shows_can_be_led_there() -> None:
    path = REPOSITORY / "config/perception.rviz"
    if not path.is_file():
        pytest.skip("there are no display settings yet")
    shown = set(re.findall(r"/calibnet/([\w/]+)", path.read_text()))
    assert yaml.safe_load(path.read_text())
    assert shown <= set(startup.VIEWED_TOPICS)


# --- what starts beside the node --------------------------------------------------------------


def test_a_recording_is_played_with_its_clock() -> None:
    play = ["ros2", "bag", "play", "/bags/a", "--clock", "--rate"]
    assert startup.bag_command(values(bag="/bags/a")) == [*play, "1"]
    given = values(bag="/bags/a", bag_rate="0.5", bag_loop="true")
    assert startup.bag_command(given) == [*play, "0.5", "--loop"]
    assert "~" not in startup.bag_command(values(bag="~/a"))[3]


def test_the_driver_aligns_depth_and_publishes_where_the_preset_reads() -> None:
    aligned = {"align_depth.enable": "true", "enable_sync": "true"}
    assert startup.driver_settings(values()) == aligned
    settings = startup.driver_settings(values(camera_namespace="left/"))
    assert settings == aligned | {"camera_namespace": "/left/camera"}
    # The driver's topics are /NAMESPACE/camera/color/image_raw.
    color = dict(startup.camera_remappings(values(camera_namespace="/left")))["color/image"]
    assert color == f"{settings['camera_namespace']}/camera/color/image_raw"


def test_nav2_manages_the_node_by_its_name() -> None:
    given = values(node_name="eyes", bag="b", autostart="true")
    parameters = startup.lifecycle_manager_parameters(given)
    assert parameters["node_names"] == ["eyes"]
    assert parameters["use_sim_time"] is True
    assert parameters["autostart"] is True


def test_an_evaluation_gets_just_the_arguments_given() -> None:
    command = ["ros2", "run", "calibnet_ros", "evaluate_bag", "/b", "--camera", "realsense"]
    assert startup.evaluate_command(values("evaluate", bag="/b")) == [
        *command,
        "--output",
        "evaluation",
    ]
    given = {"weights": "w", "output": "o", "truth": "t", "device": "cpu"}
    given |= {"params_file": "p", "thresholds": "l"}
    asked = startup.evaluate_command(values("evaluate", bag="/b", **given))[len(command) :]
    assert dict(zip(asked[::2], asked[1::2], strict=True)) == {
        "--weights": "w",
        "--output": "o",
        "--truth": "t",
        "--device": "cpu",
        "--params-file": "p",
        "--thresholds": "l",
    }


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"start_driver": "true", "bag": "b"}, "camera and recording would publish on the same"),
        ({"start_driver": "true", "camera": "orbbec"}, "driver of 'realsense' only.*'orbbec'"),
        ({"score_threshold": "high"}, "score_threshold is 'high'; give a number"),
        ({"score_threshold": "1.5"}, "score_threshold is 1.5; choose 0 to 1"),
        ({"score_threshold": "nan"}, "score_threshold is nan; choose 0 to 1"),
        ({"bag": "b", "bag_rate": "0"}, "bag_rate is 0; choose a number above 0"),
        ({"bag": "b", "bag_rate": "inf"}, "bag_rate is inf; choose a number above 0"),
        ({"bag": "b", "bag_rate": "fast"}, "bag_rate is 'fast'; give a number"),
    ],
)
def test_values_that_cannot_be_started_are_refused_in_words(given: dict, sentence: str) -> None:
    wrong = values(**given)
    with pytest.raises(ValueError, match=sentence):
        _ = startup.check(wrong), startup.node_parameters(wrong), startup.bag_command(wrong)
