"""What the launch files do, without launch: arguments to parameters, topics and command lines.

Every function takes the values of a launch file's arguments as the texts that launch hands out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from calibnet_ros.camera_presets import PRESETS, remappings
from calibnet_ros.share import share_path

Values = Mapping[str, str]
Parameters = dict[str, bool | float | str | list[str]]
Rules = list[tuple[str, str]]

RESPAWN_DELAY_S = 2.0
# Names of the node and of its outputs in config/perception.rviz.
DEFAULT_NODE_NAME = "calibnet"
VIEWED_TOPICS = (
    "overlay",
    "overlay/compressed",
    "label_image",
    "label_image/compressed",
    "markers",
    "points",
    "masked_depth",
    "saliency/mask",
    "saliency/confidence",
)
_BOOLEAN = ("true", "false")
_DRIVEN_CAMERA = "realsense"
_CAMERA_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True, kw_only=True)
class Argument:
    """One argument of a launch file; `default` None means that it must be given."""

    name: str
    help: str
    default: str | None = ""
    choices: tuple[str, ...] = ()


def _switch(name: str, default: str, help_: str) -> Argument:
    return Argument(name=name, default=default, help=help_, choices=_BOOLEAN)


_NODE_ARGUMENTS = (
    Argument(name="params_file", help="Parameter file; empty takes the package's own."),
    Argument(name="namespace", help="Namespace of the node."),
    Argument(name="node_name", default=DEFAULT_NODE_NAME, help="Name of the node."),
    Argument(name="device", help="auto, cpu, cuda or cuda:N; empty leaves it to params_file."),
    Argument(name="weights", help="Weights file; empty leaves it to params_file."),
    Argument(
        name="score_threshold",
        help="Instances must score above this, 0 to 1; empty leaves it to params_file.",
    ),
    _switch("overlay", "true", "Offer pictures of the result; true leaves it to params_file."),
    _switch("geometry", "true", "Measure objects in 3D; true leaves it to params_file."),
    _switch("autostart", "true", "Configure and activate without a lifecycle manager."),
    _switch("lifecycle_manager", "false", "Start Nav2's lifecycle manager; it does autostart."),
    _switch("use_sim_time", "false", "Read the time from /clock; a bag switches it on."),
    _switch("rviz", "false", "Start RViz with the package's display settings."),
    _switch("foxglove", "false", "Start the Foxglove bridge."),
    Argument(name="bag", help="Play this recording, with its clock."),
    Argument(name="bag_rate", default="1.0", help="Speed of the recording, above 0."),
    _switch("bag_loop", "false", "Play the recording again and again."),
    Argument(
        name="log_level",
        default="info",
        help="Least severe messages to log.",
        choices=("debug", "info", "warn", "error"),
    ),
    _switch("respawn", "true", f"Start the node again {RESPAWN_DELAY_S:g} s after it died."),
)

PERCEPTION_ARGUMENTS = (
    Argument(
        name="camera", default="realsense", help="Whose topics to read.", choices=tuple(PRESETS)
    ),
    Argument(name="camera_namespace", help="Put in front of the camera's topics."),
    _switch("start_driver", "false", "Start the RealSense driver, depth aligned to colour."),
    Argument(name="color_topic", help="Colour image topic; overrides the camera's."),
    Argument(name="depth_topic", help="Aligned depth image topic; overrides the camera's."),
    Argument(name="info_topic", help="Colour CameraInfo topic; overrides the camera's."),
    *_NODE_ARGUMENTS,
)

MULTI_CAMERA_ARGUMENTS = (
    Argument(
        name="cameras",
        default=None,
        help="NAME=PRESET@NAMESPACE for each camera, with commas between them, such as "
        f"'front=realsense@/front, back=orbbec@/back'; presets: {', '.join(PRESETS)}. The "
        "namespace goes in front of the preset's topics and may be left out with its @.",
    ),
    *_NODE_ARGUMENTS,
)

EVALUATE_ARGUMENTS = (
    Argument(name="bag", default=None, help="Recording to evaluate: rosbag2 folder or file."),
    Argument(
        name="camera",
        default="realsense",
        help="Whose topics the recording has.",
        choices=tuple(PRESETS),
    ),
    Argument(name="weights", help="Weights file; empty leaves it to params_file."),
    Argument(name="output", default="evaluation", help="Folder for the report; must not exist."),
    Argument(name="truth", help="COCO file with the labelled frames of the recording."),
    Argument(name="device", help="auto, cpu, cuda or cuda:N; empty leaves it to params_file."),
    Argument(name="params_file", help="Parameter file of the node, for the same settings."),
    Argument(name="thresholds", help="YAML file of limits; exceeding one fails the evaluation."),
)


@dataclass(frozen=True, kw_only=True)
class CameraSource:
    """One of several cameras: its name in the node, and whose topics it is."""

    name: str
    preset: str
    namespace: str = ""


def parse_cameras(text: str) -> tuple[CameraSource, ...]:
    """Read the argument `cameras`, for instance `front=realsense@/front, back=orbbec`.

    Raises:
        ValueError: a part is not of this form, a name is used twice or cannot be part of a topic,
            the preset is unknown, or two cameras would read the same topics.
    """
    cameras: list[CameraSource] = []
    for part in text.split(","):
        name, equals, source = (word.strip() for word in part.partition("="))
        preset, _, namespace = (word.strip() for word in source.partition("@"))
        if not equals or not _CAMERA_NAME.fullmatch(name):
            raise ValueError(
                f"cameras has the part '{part.strip()}'; write NAME=PRESET or "
                "NAME=PRESET@NAMESPACE, the name of letters, digits and _, with commas between "
                "the cameras, such as front=realsense@/front"
            )
        if preset not in PRESETS:
            raise ValueError(
                f"cameras has the unknown preset '{preset}' for '{name}'; "
                f"use one of {', '.join(PRESETS)}"
            )
        cameras.append(CameraSource(name=name, preset=preset, namespace=namespace))
    names = [camera.name for camera in cameras]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"cameras has the name '{repeated[0]}' twice; give each its own")
    seen: dict[str, str] = {}
    for camera in cameras:
        topic = remappings(camera.preset, camera_namespace=camera.namespace)[0][1]
        if topic in seen:
            raise ValueError(
                f"cameras '{seen[topic]}' and '{camera.name}' would both read {topic}; "
                "give each its namespace, as in NAME=PRESET@NAMESPACE"
            )
        seen[topic] = camera.name
    return tuple(cameras)


def check(values: Values) -> None:
    """Refuse values of the perception launch files that contradict each other.

    Raises:
        ValueError: what is wrong and how to mend it.
    """
    if is_true(values, "start_driver") and values["bag"]:
        raise ValueError(
            "start_driver and bag are both given, so camera and recording would publish on the "
            "same topics; leave one of them out"
        )
    if is_true(values, "start_driver") and values["camera"] != _DRIVEN_CAMERA:
        raise ValueError(
            f"start_driver starts the driver of '{_DRIVEN_CAMERA}' only, and camera is "
            f"'{values['camera']}'; start the camera's own driver"
        )


def node_parameters(values: Values, cameras: Sequence[CameraSource] = ()) -> Parameters:
    """Parameters of the node that win over its parameter file.

    Raises:
        ValueError: `score_threshold` is no number.
    """
    parameters: Parameters = {
        "use_sim_time": uses_sim_time(values),
        # Nav2's manager does the transitions itself.
        "autostart": is_true(values, "autostart") and not is_true(values, "lifecycle_manager"),
    }
    for argument, parameter in (("device", "model.device"), ("weights", "model.weights")):
        if values[argument]:
            parameters[parameter] = values[argument]
    if values["score_threshold"]:
        threshold = _number(values, "score_threshold")
        if not 0.0 <= threshold <= 1.0:
            raise ValueError(f"score_threshold is {threshold:g}; choose 0 to 1")
        parameters["detection.score_threshold"] = threshold
    # True is the parameters' own default, and must not overrule a file that says false.
    for argument, parameter in (("overlay", "output.overlay"), ("geometry", "geometry.enable")):
        if not is_true(values, argument):
            parameters[parameter] = False
    if cameras:
        parameters["cameras"] = [camera.name for camera in cameras]
    return parameters


def parameter_file(values: Values) -> Path:
    """The parameter file given, or that of the package."""
    given = values["params_file"]
    return Path(given).expanduser() if given else share_path("config/perception.yaml")


def camera_remappings(values: Values) -> Rules:
    """Where the node's inputs come from, for one camera."""
    return remappings(
        values["camera"],
        camera_namespace=values["camera_namespace"],
        color_topic=values["color_topic"],
        depth_topic=values["depth_topic"],
        info_topic=values["info_topic"],
    )


def multi_camera_remappings(cameras: Sequence[CameraSource]) -> Rules:
    """Where the node's inputs come from, for several cameras."""
    return [
        rule
        for camera in cameras
        for rule in remappings(camera.preset, name=camera.name, camera_namespace=camera.namespace)
    ]


def driver_settings(values: Values) -> dict[str, str]:
    """Arguments for the RealSense driver's launch file, to fit the preset's topics."""
    settings = {"align_depth.enable": "true", "enable_sync": "true"}
    if namespace := values["camera_namespace"].strip("/"):
        settings["camera_namespace"] = f"/{namespace}/camera"
    return settings


def bag_command(values: Values) -> list[str]:
    """The command that plays the recording.

    Raises:
        ValueError: `bag_rate` is not above 0.
    """
    rate = _number(values, "bag_rate")
    if not rate > 0.0 or math.isinf(rate):
        raise ValueError(f"bag_rate is {rate:g}; choose a number above 0, such as 0.5 for half")
    bag = str(Path(values["bag"]).expanduser())
    command = ["ros2", "bag", "play", bag, "--clock", "--rate", f"{rate:g}"]
    return [*command, "--loop"] if is_true(values, "bag_loop") else command


def lifecycle_manager_parameters(values: Values) -> Parameters:
    """Parameters of Nav2's lifecycle manager; it must run in the node's namespace."""
    return {
        "node_names": [values["node_name"]],
        "autostart": is_true(values, "autostart"),
        "use_sim_time": uses_sim_time(values),
        # The node's heartbeat needs bondpy, which may be missing; 0 does without.
        "bond_timeout": 0.0,
    }


def viewer_remappings(values: Values, cameras: Sequence[CameraSource] = ()) -> Rules:
    """Let RViz find the outputs of a node with another name; of several cameras, the first's."""
    namespace = values["namespace"].strip("/")
    parts = (namespace, values["node_name"], cameras[0].name if cameras else "")
    node = "".join(f"/{part}" for part in parts if part)
    default = f"/{DEFAULT_NODE_NAME}"
    return [(f"{default}/{t}", f"{node}/{t}") for t in VIEWED_TOPICS] if node != default else []


def evaluate_command(values: Values) -> list[str]:
    """The command that evaluates a recording."""
    command = ["ros2", "run", "calibnet_ros", "evaluate_bag", values["bag"]]
    for name in ("camera", "weights", "output", "truth", "device", "params_file", "thresholds"):
        if values[name]:
            command += [f"--{name.replace('_', '-')}", values[name]]
    return command


def uses_sim_time(values: Values) -> bool:
    """Whether time comes from /clock."""
    return is_true(values, "use_sim_time") or bool(values["bag"])


def is_true(values: Values, name: str) -> bool:
    """Whether a switch is on; one that the launch file does not have is off."""
    return values.get(name, "false") == "true"


def _number(values: Values, name: str) -> float:
    try:
        return float(values[name])
    except ValueError:
        raise ValueError(f"{name} is '{values[name]}'; give a number") from None
