"""Topics of common RGB-D camera drivers, by the names that `camera:=` and `--camera` take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class CameraPreset:
    """Where a driver publishes; `note` says what it must be told, if anything."""

    color: str
    depth: str
    info: str
    depth_info: str
    note: str = ""


_REALSENSE_NOTE = "start the driver with align_depth.enable:=true enable_sync:=true"

PRESETS: dict[str, CameraPreset] = {
    "realsense": CameraPreset(
        color="/camera/camera/color/image_raw",
        depth="/camera/camera/aligned_depth_to_color/image_raw",
        info="/camera/camera/color/camera_info",
        depth_info="/camera/camera/aligned_depth_to_color/camera_info",
        note=_REALSENSE_NOTE,
    ),
    "realsense_legacy": CameraPreset(
        color="/camera/color/image_raw",
        depth="/camera/aligned_depth_to_color/image_raw",
        info="/camera/color/camera_info",
        depth_info="/camera/aligned_depth_to_color/camera_info",
        note=_REALSENSE_NOTE,
    ),
    "azure_kinect": CameraPreset(
        color="/rgb/image_raw",
        depth="/depth_to_rgb/image_raw",
        info="/rgb/camera_info",
        depth_info="/depth_to_rgb/camera_info",
    ),
    "azure_kinect_depth_frame": CameraPreset(
        color="/rgb_to_depth/image_raw",
        depth="/depth/image_raw",
        info="/depth/camera_info",
        depth_info="/depth/camera_info",
        note="smaller images with denser depth",
    ),
    "orbbec": CameraPreset(
        color="/camera/color/image_raw",
        depth="/camera/depth/image_raw",
        info="/camera/color/camera_info",
        depth_info="/camera/depth/camera_info",
        note="switch depth registration on in the driver",
    ),
    "generic": CameraPreset(
        color="rgb/image_rect_color",
        depth="depth_registered/image_rect",
        info="rgb/camera_info",
        depth_info="depth_registered/camera_info",
        note="the names of image_pipeline",
    ),
}


def remappings(
    camera: str,
    *,
    name: str = "",
    camera_namespace: str = "",
    color_topic: str = "",
    depth_topic: str = "",
    info_topic: str = "",
) -> list[tuple[str, str]]:
    """The node's input names and the topics to read instead.

    Args:
        camera: a name of `PRESETS`, or empty for none; the node then reads its own relative names.
        name: of the camera in a node with several; its inputs are `NAME/color/image` and so on.
        camera_namespace: put in front of the preset's topics.
        color_topic: replaces that of the preset, when given.
        depth_topic: likewise.
        info_topic: likewise.

    Raises:
        ValueError: the preset is unknown.
    """
    if camera and camera not in PRESETS:
        raise ValueError(f"unknown camera '{camera}'; use one of {', '.join(PRESETS)}")
    topics = {}
    if camera:
        preset = PRESETS[camera]
        prefix = camera_namespace.rstrip("/")
        topics = {
            "color/image": _prefixed(prefix, preset.color),
            "depth/image": _prefixed(prefix, preset.depth),
            "color/camera_info": _prefixed(prefix, preset.info),
            "depth/camera_info": _prefixed(prefix, preset.depth_info),
        }
    given = {
        "color/image": color_topic,
        "depth/image": depth_topic,
        "color/camera_info": info_topic,
    }
    topics.update({role: topic for role, topic in given.items() if topic})
    front = f"{name}/" if name else ""
    return [(f"{front}{role}", topic) for role, topic in topics.items()]


def _prefixed(prefix: str, topic: str) -> str:
    return f"{prefix}/{topic.lstrip('/')}" if prefix else topic
