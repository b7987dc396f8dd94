"""Which topics hold colour, registered depth and camera info, and which preset names them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from calibnet_ros.camera_presets import PRESETS, CameraPreset
from calibnet_ros.doctor.facts import (
    CAMERA_INFO,
    COMPRESSED_IMAGE,
    IMAGE,
    Choice,
    Request,
    TopicFacts,
)

_TRANSPORTS = {"color": "compressed", "depth": "compressedDepth"}
_COLOR_MARKS = ("color", "colour", "rgb", "left")
_ALIGNED_MARKS = ("aligned", "depth_to_rgb", "depth_to_color", "registered")
# Infrared images, and what perception nodes themselves publish.
_FOREIGN_MARKS = ("infra", "/ir/", "label", "overlay", "mask", "saliency", "confidence")


@dataclass(frozen=True)
class Match:
    """A preset whose colour topic, and perhaps depth topic, is there under some namespace."""

    camera: str
    camera_namespace: str
    has_depth: bool


def matches(topics: Sequence[TopicFacts]) -> list[Match]:
    """Presets whose colour topic is there, in any namespace; those with the longest names first."""
    found = []
    names = _image_bases(topics)
    for camera, preset in PRESETS.items():
        wanted = _absolute(preset.color)
        for name in names["color"]:
            # A raw topic ends so in any namespace; one of several cameras is one match of several.
            if name.endswith(wanted):
                namespace = name.removesuffix(wanted)
                has_depth = namespace + _absolute(preset.depth) in names["depth"]
                found.append(Match(camera, namespace, has_depth))
    return sorted(found, key=lambda match: -len(_preset_names(PRESETS[match.camera])))


def choose(topics: Sequence[TopicFacts], request: Request) -> Choice:
    """Settle the topics: those that were asked for, else a preset's, else by name and type."""
    color, depth, info, depth_info, rivals = "", "", "", "", []
    if request.camera:
        preset = PRESETS[request.camera]
        color, depth, info, depth_info = (
            _below(request.camera_namespace, name)
            for name in (preset.color, preset.depth, preset.info, preset.depth_info)
        )
    elif not (request.color_topic and request.depth_topic):
        complete = [match for match in matches(topics) if match.has_depth]
        if complete:
            first = complete[0]
            preset = PRESETS[first.camera]
            color, depth, info, depth_info = (
                _below(first.camera_namespace, name)
                for name in (preset.color, preset.depth, preset.info, preset.depth_info)
            )
            others = {_below(m.camera_namespace, PRESETS[m.camera].color) for m in complete}
            rivals += sorted(others - {color})
    color, depth, info = (
        request.color_topic or color,
        request.depth_topic or depth,
        request.info_topic or info,
    )
    names = _image_bases(topics)
    if not color:
        candidates = [name for name in names["color"] if name != depth and not _is_depth(name)]
        color, others = _best(candidates, _COLOR_MARKS)
        rivals += others
    if not depth:
        candidates = [name for name in names["depth"] if name != color and _is_depth(name)]
        depth, others = _best(candidates, _ALIGNED_MARKS)
        rivals += others
    color, color_transport = _split_transport(color, "color", topics)
    depth, depth_transport = _split_transport(depth, "depth", topics)
    infos = {topic.name for topic in topics if CAMERA_INFO in topic.msg_types}
    if info not in infos and not request.info_topic:
        info = _info_beside(color, infos) or info
    if depth_info not in infos:
        depth_info = _info_beside(depth, infos)
    camera, namespace = preset_of(color, depth, info)
    return Choice(
        color=color,
        depth=depth,
        info=info,
        depth_info=depth_info,
        camera=camera,
        camera_namespace=namespace,
        color_transport=color_transport,
        depth_transport=depth_transport,
        rivals=tuple(rivals),
    )


def preset_of(color: str, depth: str, info: str) -> tuple[str, str]:
    """Preset and namespace that name exactly these topics; two empty strings if none does."""
    for camera, preset in sorted(PRESETS.items(), key=lambda item: -len(_preset_names(item[1]))):
        namespace = color.removesuffix(_absolute(preset.color))
        if namespace == color or not color:
            continue
        if depth == _below(namespace, preset.depth) and info in (
            "",
            _below(namespace, preset.info),
        ):
            return camera, namespace
    return "", ""


def _image_bases(topics: Sequence[TopicFacts]) -> dict[str, list[str]]:
    """Names of image topics with a source, without the ending of a compressed transport."""
    bases: dict[str, list[str]] = {"color": [], "depth": []}
    for topic in topics:
        if not topic.has_source or any(mark in topic.name for mark in _FOREIGN_MARKS):
            continue
        for role, transport in _TRANSPORTS.items():
            if COMPRESSED_IMAGE in topic.msg_types and topic.name.endswith(f"/{transport}"):
                bases[role].append(topic.name.removesuffix(f"/{transport}"))
            elif IMAGE in topic.msg_types:
                bases[role].append(topic.name)
    return {role: sorted(set(names)) for role, names in bases.items()}


def _split_transport(name: str, role: str, topics: Sequence[TopicFacts]) -> tuple[str, str]:
    """The raw topic's name and the transport that brings its images."""
    transport = _TRANSPORTS[role]
    if name.endswith(f"/{transport}"):
        return name.removesuffix(f"/{transport}"), transport
    types = {topic.name: topic.msg_types for topic in topics if topic.has_source}
    is_only_compressed = name not in types and COMPRESSED_IMAGE in types.get(
        f"{name}/{transport}", ()
    )
    return name, transport if is_only_compressed else "raw"


def _best(names: Sequence[str], marks: Sequence[str]) -> tuple[str, list[str]]:
    marked = [name for name in names if any(mark in name.lower() for mark in marks)]
    chosen = marked or list(names)
    return (chosen[0], chosen[1:]) if chosen else ("", [])


def _is_depth(name: str) -> bool:
    return "depth" in name.lower() and "rgb_to_depth" not in name


def _info_beside(image: str, infos: set[str]) -> str:
    beside = image.rpartition("/")[0] + "/camera_info"
    return beside if image and beside in infos else ""


def _below(namespace: str, name: str) -> str:
    return namespace.rstrip("/") + _absolute(name)


def _absolute(name: str) -> str:
    return "/" + name.lstrip("/")


def _preset_names(preset: CameraPreset) -> str:
    return preset.color + preset.depth
