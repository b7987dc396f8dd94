"""What the doctor says of topics, types and publishers."""

from __future__ import annotations

from calibnet_ros.camera_presets import PRESETS
from calibnet_ros.doctor.choosing import choose
from calibnet_ros.doctor.facts import COMPRESSED_IMAGE, Choice, Request, StreamFacts
from calibnet_ros.doctor.findings import Verdict
from calibnet_ros.doctor.input_checks import (
    check_arrival,
    check_presence,
    check_publishers,
    check_source,
)
from tests.calibnet_ros.doctor.sound import PRESET, endpoint, facts, machine, only, topic

COLOR = topic(PRESET.color)


def test_an_empty_graph_is_told_with_domain_and_reach() -> None:
    given = facts(topics=(), choice=Choice(), machine=machine(discovery_range="LOCALHOST"))
    only(check_source, given, Verdict.MEND, "nobody publishes", "domain 0", "LOCALHOST", "--bag")
    assert list(check_presence(given)) == []


def test_a_recording_that_cannot_be_read_is_told_in_the_words_of_its_reader() -> None:
    given = facts(source="x.mcap", topics=(), failure="x.mcap: is damaged; record it again")
    finding = only(check_source, given, Verdict.MEND)
    assert (finding.text, finding.remedy) == ("x.mcap: is damaged.", "record it again")


def test_missing_registered_depth_is_explained_by_the_driver_of_the_colour_topic() -> None:
    topics = (COLOR, topic("/camera/camera/infra1/image_rect_raw"))
    given = facts(topics=topics, choice=choose(topics, Request()))
    only(
        check_presence,
        given,
        Verdict.MEND,
        "no depth image",
        "/camera/camera/infra1/image_rect_raw",
        "preset 'realsense'",
        PRESET.depth,
        "align_depth.enable:=true",
    )


def test_a_preset_that_nobody_publishes_is_named_topic_by_topic() -> None:
    request = Request(camera="orbbec")
    given = facts(topics=(COLOR,), choice=choose([COLOR], request), request=request)
    findings = list(check_presence(given))
    texts = [finding.text for finding in findings if finding.verdict is Verdict.MEND]
    assert len(texts) == 2
    assert f"nobody publishes {PRESETS['orbbec'].color}" in texts[0]
    assert PRESETS["orbbec"].depth in texts[1]


def test_compressed_images_on_a_raw_topic_name_the_parameter() -> None:
    topics = (topic(PRESET.color, COMPRESSED_IMAGE), topic(PRESET.depth))
    only(
        check_presence,
        facts(topics=topics),
        Verdict.MEND,
        "holds sensor_msgs/msg/CompressedImage",
        "input.color_transport:=compressed",
    )


def test_compressed_images_only_are_worth_knowing() -> None:
    topics = (topic(PRESET.color), topic(f"{PRESET.depth}/compressedDepth", COMPRESSED_IMAGE))
    given = facts(topics=topics, choice=choose(topics, Request()))
    only(check_presence, given, Verdict.NOTE, "input.depth_transport:=compressedDepth")


def test_two_publishers_of_one_topic_are_named() -> None:
    twice = topic(PRESET.color, publishers=(endpoint(node="/a"), endpoint(node="/b")))
    only(check_publishers, facts(topics=(twice,)), Verdict.MEND, "2 publishers (/a, /b)")


def test_policies_that_do_not_fit_are_told_for_publisher_and_subscriber() -> None:
    unheard = topic(PRESET.color, publishers=(endpoint(conflict="it is weaker"),))
    only(check_publishers, facts(topics=(unheard,)), Verdict.MEND, "/driver cannot be heard")
    deaf = topic(PRESET.color, subscribers=(endpoint(node="/calibnet", conflict="best effort"),))
    only(
        check_publishers,
        facts(topics=(deaf,)),
        Verdict.NOTE,
        "/calibnet subscribes",
        "hears nothing: best effort",
        f"qos_overrides.{PRESET.color}.subscription",
    )


def test_a_silent_publisher_and_damaged_messages_are_told() -> None:
    streams = {"color": StreamFacts(), "depth": StreamFacts(num_damaged=3, stamps_ns=[1])}
    silent, damaged = check_arrival(facts(streams=streams))
    assert "nothing came on" in silent.text
    assert "/driver (reliable, volatile)" in silent.text
    assert "3 messages" in damaged.text
