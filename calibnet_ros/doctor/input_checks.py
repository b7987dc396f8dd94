"""Are the inputs there, of the right type, and can they be heard?"""

from __future__ import annotations

from collections.abc import Iterator

from calibnet_ros.camera_presets import PRESETS
from calibnet_ros.doctor.choosing import matches
from calibnet_ros.doctor.facts import (
    CAMERA_INFO,
    COMPRESSED_IMAGE,
    IMAGE,
    ROLE_NAMES,
    EndpointFacts,
    Facts,
    InputFacts,
    Role,
    TopicFacts,
)
from calibnet_ros.doctor.findings import Finding, Theme, good, mend, mend_error, note

_THEME = Theme.INPUTS
_IMAGES: tuple[Role, ...] = ("color", "depth")
_PARAMETERS: dict[Role, tuple[str, str]] = {
    "color": ("input.color_transport", "compressed"),
    "depth": ("input.depth_transport", "compressedDepth"),
}
_MAX_LISTED = 12


def check_source(facts: Facts) -> Iterator[Finding]:
    """Could the graph or the recording be read at all?"""
    inputs = facts.inputs
    if inputs.failure:
        if inputs.is_live:
            yield mend(
                _THEME,
                f"{inputs.failure}.",
                "check ROS_DOMAIN_ID, RMW_IMPLEMENTATION and the file that "
                f"{facts.machine.profile_variable} names; then run the doctor again",
            )
        else:
            yield mend_error(_THEME, "", inputs.failure)
    if inputs.truncated:
        yield note(
            _THEME,
            f"only the first {inputs.elapsed_s:.0f} s of the recording were read.",
            "give a longer --duration to read more",
        )
    if inputs.is_live and not inputs.failure and not any(t.has_source for t in inputs.topics):
        domain = facts.machine.domain_id or "0"
        reach = facts.machine.discovery_range or "the local network"
        yield mend(
            _THEME,
            f"nobody publishes images here (domain {domain}, discovery reaches {reach}).",
            "start the camera driver, with the same ROS_DOMAIN_ID, middleware and discovery range "
            "as in this terminal; a recording is looked at with --bag PATH",
        )


def check_presence(facts: Facts) -> Iterator[Finding]:
    """Is there a topic for each role, and of the type that the node reads?"""
    inputs = facts.inputs
    if _is_nothing_there(inputs):
        return
    for role in _IMAGES:
        name = inputs.choice.topic(role)
        topic = inputs.topic(name) if name else None
        if topic is None or not topic.has_source:
            yield _missing(inputs, role)
        else:
            yield from _type_findings(inputs, role, topic)
    if inputs.choice.rivals:
        yield note(
            _THEME,
            f"there are more images that could be meant: {', '.join(inputs.choice.rivals)}.",
            "choose with --color-topic and --depth-topic, or --camera-namespace",
        )
    if inputs.choice.camera:
        below = inputs.choice.camera_namespace
        where = f" in namespace {below}" if below else ""
        yield good(_THEME, f"the topics are those of the preset '{inputs.choice.camera}'{where}.")


def check_publishers(facts: Facts) -> Iterator[Finding]:
    """Do the policies of both ends fit, and is there one publisher a topic?"""
    if not facts.inputs.is_live:
        return
    for role, label in ROLE_NAMES.items():
        topic = facts.inputs.topic(facts.inputs.choice.topic(role))
        if topic is None:
            continue
        if len(topic.publishers) > 1:
            names = ", ".join(entry.node for entry in topic.publishers)
            yield mend(
                _THEME,
                f"{label} topic {topic.name} has {len(topic.publishers)} publishers ({names}), so "
                "images of several sources are mixed.",
                "give each camera its own namespace, or end the driver that is left over",
            )
        for entry in topic.publishers:
            if entry.conflict:
                yield mend(
                    _THEME,
                    f"{label} of {entry.node} cannot be heard: {entry.conflict}.",
                    "set the publisher to volatile durability and reliable or best-effort "
                    "reliability",
                )
        for entry in topic.subscribers:
            if entry.conflict:
                yield _deaf(topic, entry)


def check_arrival(facts: Facts) -> Iterator[Finding]:
    """Did anything come from the topics that are there?"""
    inputs = facts.inputs
    for role in _IMAGES:
        stream = inputs.streams.get(role)
        topic = inputs.topic(inputs.choice.topic(role))
        if stream is None or topic is None or not topic.has_source:
            continue
        if stream.num_damaged:
            yield mend(
                _THEME,
                f"{stream.num_damaged} messages on {topic.name} are cut off or damaged.",
                "record again, and look for a full disk",
            )
        if stream.stamps_ns or stream.num_damaged:
            continue
        if inputs.is_live:
            names = ", ".join(_described(entry) for entry in topic.publishers)
            yield mend(
                _THEME,
                f"nothing came on {topic.name} in {inputs.elapsed_s:.1f} s although it has "
                f"publishers: {names}.",
                "see whether the driver reports errors or waits for a subscriber of another "
                "stream; large images between machines or containers need the middleware profile",
            )
        elif not inputs.failure:
            yield mend(_THEME, f"no message on {topic.name} was read.", "record the topic again")


def _is_nothing_there(inputs: InputFacts) -> bool:
    if inputs.failure and not inputs.topics:
        return True
    asked = inputs.request.color_topic or inputs.request.depth_topic or inputs.request.camera
    return not asked and not any(topic.has_source for topic in inputs.topics)


def _missing(inputs: InputFacts, role: Role) -> Finding:
    label, name = ROLE_NAMES[role], inputs.choice.topic(role)
    found = [topic.name for topic in inputs.topics if topic.has_source and _is_image(topic)]
    listed = ", ".join(found[:_MAX_LISTED]) or "none"
    text = f"no {label} image: " + (
        f"nobody publishes {name}." if name else "no topic looks like one."
    )
    text += f" Image topics that are there: {listed}."
    remedy = f"start the driver, or name the topic with --{role}-topic"
    if role == "depth" and (partial := [m for m in matches(inputs.topics) if not m.has_depth]):
        preset = PRESETS[partial[0].camera]
        is_registered_absent = f"the driver of preset '{partial[0].camera}' publishes registered "
        remedy = (
            f"{is_registered_absent}depth on {partial[0].camera_namespace}{preset.depth}"
            f"{f': {preset.note}' if preset.note else ''}; or name the topic with --depth-topic"
        )
    return mend(_THEME, text, remedy)


def _type_findings(inputs: InputFacts, role: Role, topic: TopicFacts) -> Iterator[Finding]:
    label, choice = ROLE_NAMES[role], inputs.choice
    parameter, transport = _PARAMETERS[role]
    wanted = IMAGE if choice.transport(role) == "raw" else COMPRESSED_IMAGE
    if len(topic.msg_types) > 1:
        yield mend(
            _THEME,
            f"{topic.name} is used with several types: {', '.join(topic.msg_types)}.",
            "end or remap the publishers and subscribers of the wrong type",
        )
    if wanted not in topic.msg_types:
        remedy = f"name a topic of images with --{role}-topic"
        if COMPRESSED_IMAGE in topic.msg_types:
            remedy = (
                f"the node reads compressed images from a topic that ends in /{transport}: remap "
                f"the publisher there and set the parameter {parameter}:={transport}"
            )
        types = ", ".join(topic.msg_types)
        yield mend(
            _THEME,
            f"{label} topic {topic.name} holds {types}; the node reads {wanted} there.",
            remedy,
        )
    elif wanted == COMPRESSED_IMAGE:
        yield note(
            _THEME,
            f"{label} comes compressed only, on {topic.name}.",
            f"set the parameter {parameter}:={transport} (the lines at the end do)",
        )
    else:
        yield good(_THEME, f"{label} comes on {topic.name}{_origin(topic)}.")


def _origin(topic: TopicFacts) -> str:
    if topic.num_messages is not None:
        return f", {topic.num_messages} messages"
    return " from " + ", ".join(_described(entry) for entry in topic.publishers)


def _described(entry: EndpointFacts) -> str:
    return f"{entry.node} ({entry.reliability.replace('_', ' ')}, {entry.durability})"


def _deaf(topic: TopicFacts, entry: EndpointFacts) -> Finding:
    return note(
        _THEME,
        f"{entry.node} subscribes to {topic.name} and hears nothing: {entry.conflict}.",
        f"let {entry.node} ask for best effort and volatile, which hears every publisher; for this "
        f"package's node delete qos_overrides.{topic.name}.subscription.* from its parameters",
    )


def _is_image(topic: TopicFacts) -> bool:
    return CAMERA_INFO not in topic.msg_types
