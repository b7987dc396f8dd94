"""The exact lines that start the node on what was found."""

from __future__ import annotations

import shlex

from calibnet_core.shipped_weights import SHIPPED_WEIGHTS
from calibnet_ros.camera_presets import PRESETS
from calibnet_ros.doctor.facts import Facts, InputFacts
from calibnet_ros.doctor.time_checks import needs_simulated_time

_FALLBACK_CAMERA = "realsense"


def launch_line(facts: Facts) -> str:
    """The `ros2 launch` line, with only the arguments that are needed."""
    inputs, choice = facts.inputs, facts.inputs.choice
    arguments = _camera_arguments(inputs)
    if not choice.camera:
        given = (
            ("color_topic", choice.color),
            ("depth_topic", choice.depth),
            ("info_topic", choice.info),
        )
        arguments |= {name: topic for name, topic in given if topic}
    if not inputs.is_live:
        arguments["bag"] = inputs.source
    elif needs_simulated_time(inputs):
        arguments["use_sim_time"] = "true"
    if path := _named_weights(facts):
        arguments["weights"] = path
    words = [f"{name}:={shlex.quote(value)}" for name, value in arguments.items()]
    line = " ".join(["ros2 launch calibnet_ros perception.launch.py", *words])
    if parameters := node_parameters(facts):
        # The launch file takes these from a parameter file only.
        listed = ", ".join(f"{name}: {value}" for name, value in parameters.items())
        line += f" params_file:=FILE  # FILE sets {listed}"
    return line


def node_lines(facts: Facts) -> tuple[str, ...]:
    """The same without launch; for a recording also the line that plays it."""
    inputs, choice = facts.inputs, facts.inputs.choice
    words = ["perception_node"]
    ros_words = []
    if camera := _camera_arguments(inputs).get("camera"):
        words.append(f"--camera {camera}")
        if choice.camera_namespace:
            words.append(f"--camera-namespace {shlex.quote(choice.camera_namespace)}")
    else:
        for name, topic in (
            ("color/image", choice.color),
            ("depth/image", choice.depth),
            ("color/camera_info", choice.info),
        ):
            if topic:
                ros_words.append(f"-r {name}:={shlex.quote(topic)}")
    parameters = node_parameters(facts)
    if needs_simulated_time(inputs):
        parameters["use_sim_time"] = "true"
    if path := _named_weights(facts):
        parameters["model.weights"] = shlex.quote(path)
    ros_words += [f"-p {name}:={value}" for name, value in parameters.items()]
    if ros_words:
        words += ["--ros-args", *ros_words]
    lines = [" ".join(words)]
    if not inputs.is_live:
        asked = (
            ("--color-topic", inputs.request.color_topic),
            ("--depth-topic", inputs.request.depth_topic),
            ("--info-topic", inputs.request.info_topic),
        )
        options = [f"{name} {shlex.quote(topic)}" for name, topic in asked if topic]
        lines.append(" ".join(["play_bag", shlex.quote(inputs.source), *options]))
    return tuple(lines)


def node_parameters(facts: Facts) -> dict[str, str]:
    """Parameters that the node needs for what was found."""
    choice = facts.inputs.choice
    parameters = {}
    if choice.color_transport != "raw":
        parameters["input.color_transport"] = choice.color_transport
    if choice.depth_transport != "raw":
        parameters["input.depth_transport"] = choice.depth_transport
    return parameters


def _camera_arguments(inputs: InputFacts) -> dict[str, str]:
    choice, request = inputs.choice, inputs.request
    camera = choice.camera or (request.camera if request.camera in PRESETS else "")
    if not camera and not (choice.color or choice.depth):
        camera = _FALLBACK_CAMERA
    if not camera:
        return {}
    arguments = {"camera": camera}
    namespace = choice.camera_namespace if choice.camera else request.camera_namespace
    return arguments | ({"camera_namespace": namespace} if namespace else {})


def _named_weights(facts: Facts) -> str:
    """Path of the weights where they are not the ones that are used anyway, else nothing."""
    weights = facts.weights
    return weights.path if weights is not None and weights.path != str(SHIPPED_WEIGHTS) else ""
