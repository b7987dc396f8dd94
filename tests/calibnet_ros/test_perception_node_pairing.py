"""Which colour and depth images the node answers together, over the wire."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from tests.support.ros import FRAME_ID, NS_PER_MS, color_msg, depth_msg, stamp_ns_of, time_msg

pytestmark = pytest.mark.ros

FRAME_NS = 33_333_333


@pytest.fixture(scope="module")
def robot(start_robot):
    robot = start_robot(loses_nothing=True)
    robot.wait_until_connected()
    return robot


@pytest.fixture(autouse=True)
def _accounts_balance(robot):
    yield
    robot.counters()
    robot.assert_balanced()


def play(robot, events, *, offset_ns=0, lag=0, first_ns=None, count=1):
    """Publish images in order, waiting for each answer that is due, so that none is superseded.

    Args:
        robot: with the node.
        events: such as "d0 c0 d1 c1": depth or colour, and the number of the frame.
        offset_ns: depth stamp minus colour stamp.
        lag: how many further messages the node may have to see before it settles a pair.
        first_ns: stamp of frame 0; a later one than ever before if None.
        count: how many answers to a stamp there are in the end.

    Returns:
        Stamp of frame 0.
    """
    if first_ns is None:
        first_ns = robot.next_stamp(periods=100)
        robot.next_stamp(periods=100)
    messages = [(event[0], int(event[1:])) for event in events.split()]
    pairs = {frame for _, frame in messages if {("c", frame), ("d", frame)} <= set(messages)}
    due = {f: max(messages.index(("c", f)), messages.index(("d", f))) + lag for f in pairs}
    for place, (kind, frame) in enumerate(messages):
        for other in pairs:
            if due[other] < place:
                robot.answer(first_ns + other * FRAME_NS, count)
        stamp_ns = first_ns + frame * FRAME_NS
        if kind == "c":
            robot.color.publish(color_msg(stamp_ns))
        else:
            robot.depth.publish(depth_msg(stamp_ns + offset_ns))
    for frame in pairs:
        robot.answer(first_ns + frame * FRAME_NS, count)
    return first_ns


def alternating(num_frames, first="c"):
    second = "d" if first == "c" else "c"
    return " ".join(f"{first}{frame} {second}{frame}" for frame in range(num_frames))


def answered_frames(robot, first_ns, num_frames):
    stamps = [first_ns + frame * FRAME_NS for frame in range(num_frames)]
    return [frame for frame, stamp_ns in enumerate(stamps) if robot.results_for(stamp_ns)]


def test_equal_stamps_pair_and_every_answer_bears_the_header_of_its_colour_image(robot):
    before = robot.counters()
    first_ns = play(robot, alternating(6))
    results = [robot.answer(first_ns + frame * FRAME_NS) for frame in range(6)]
    assert [msg.header.stamp for msg in results] == [
        time_msg(first_ns + frame * FRAME_NS) for frame in range(6)
    ]
    assert {msg.header.frame_id for msg in results} == {FRAME_ID}
    assert {(msg.depth_offset.sec, msg.depth_offset.nanosec) for msg in results} == {(0, 0)}
    assert [msg.sequence - results[0].sequence for msg in results] == list(range(6))
    after = robot.counters()
    assert after["published"] - before["published"] == 6
    assert after["paired"] - before["paired"] == 6
    assert after["published"] == results[-1].sequence


@pytest.mark.parametrize("order", ["c", "d"])
@pytest.mark.parametrize("offset_ns", [4 * NS_PER_MS, -4 * NS_PER_MS])
def test_depth_a_little_off_pairs_and_the_answer_tells_the_offset(robot, offset_ns, order):
    first_ns = play(robot, alternating(8, first=order), offset_ns=offset_ns, lag=1)
    for frame in range(8):
        offset = robot.answer(first_ns + frame * FRAME_NS).depth_offset
        assert offset.sec * 1_000_000_000 + offset.nanosec == offset_ns
        assert 0 <= offset.nanosec < 1_000_000_000


def test_depth_that_arrives_a_frame_early_still_pairs_with_its_own_colour_image(robot):
    before = robot.counters()
    early = "d0 " + " ".join(f"d{frame + 1} c{frame}" for frame in range(12)) + " c12"
    first_ns = play(robot, early)
    for frame in range(13):
        offset = robot.answer(first_ns + frame * FRAME_NS).depth_offset
        assert (offset.sec, offset.nanosec) == (0, 0)
    after = robot.counters()
    assert after["published"] - before["published"] == 13
    assert after["dropped_color.no_partner"] == before["dropped_color.no_partner"]


def test_colour_at_twice_the_rate_of_depth_is_answered_every_other_time(robot):
    before = robot.counters()
    events = [f"c{f} d{f}" if f % 2 == 0 else f"c{f}" for f in range(21)]
    first_ns = play(robot, " ".join(events))
    after = robot.counters()
    assert answered_frames(robot, first_ns, 21) == list(range(0, 21, 2))
    alone = sum(after[key] - before[key] for key in ("dropped_color.no_partner", "waiting_color"))
    assert alone == 10


def test_a_colour_image_without_partner_is_passed_over(robot):
    before = robot.counters()
    first_ns = play(robot, "c0 c1 d1 c2 d2 c3 d3")
    after = robot.counters()
    assert answered_frames(robot, first_ns, 4) == [1, 2, 3]
    alone = sum(after[key] - before[key] for key in ("dropped_color.no_partner", "waiting_color"))
    assert alone == 1


def test_a_colour_image_whose_partner_never_comes_is_counted_when_it_is_given_up(robot):
    before = robot.counters()
    play(robot, " ".join(f"c{frame}" for frame in range(9)) + " c9 d9")
    after = robot.counters()
    assert after["published"] - before["published"] == 1
    assert after["dropped_color.no_partner"] > before["dropped_color.no_partner"]
    assert after["waiting_color"] <= 5


@pytest.mark.parametrize("num_frames", [25, 10])
def test_a_looping_recording_pairs_in_every_loop(robot, num_frames):
    # The last three colour images have no partner; they must not block the next loop. Ten frames
    # fall back by less than sync.reset_on_backward_jump, so nothing tells the node that time began
    # anew.
    before = robot.counters()
    paired = num_frames - 3
    loop = alternating(paired) + "".join(f" c{paired + extra}" for extra in range(3))
    first_ns = play(robot, loop)
    for loop_number in (2, 3):
        play(robot, loop, first_ns=first_ns, count=loop_number)
    counts = [len(robot.results_for(first_ns + f * FRAME_NS)) for f in range(num_frames)]
    assert counts == [3] * paired + [0] * 3
    after = robot.counters()
    assert after["backward_jumps"] - before["backward_jumps"] == (2 if num_frames == 25 else 0)
    assert after["received_color"] - before["received_color"] == 3 * num_frames


def test_a_jump_back_is_told_once_in_plain_words(robot):
    first_ns = play(robot, alternating(3))
    told = len(robot.process.lines("stamps went back by"))
    play(robot, alternating(3), first_ns=first_ns - 10_000_000_000)
    robot.counters()
    lines = robot.process.lines("stamps went back by", "pairing starts anew")
    assert len(lines) - told == 1
    robot.next_stamp()


def test_an_image_that_comes_twice_is_answered_once(robot):
    before = robot.counters()
    stamp_ns = robot.next_stamp(periods=100)
    robot.answer(robot.send_pair(stamp_ns))
    robot.color.publish(color_msg(stamp_ns))
    robot.ask()
    after = robot.counters()
    assert len(robot.results_for(stamp_ns)) == 1
    assert after["dropped_color.duplicate"] - before["dropped_color.duplicate"] == 1


def reconfigure(robot, **parameters):
    """Set parameters that need a new configuration, and bring the node back to work."""
    for label in ("deactivate", "cleanup"):
        assert robot.change_state(label)
    assert all(result.successful for result in robot.set_parameters(**parameters))
    for label in ("configure", "activate"):
        assert robot.change_state(label)
    robot.wait_until_connected()


def test_exact_mode_takes_equal_stamps_only(robot):
    reconfigure(robot, sync__mode="exact")
    first_ns = robot.next_stamp(periods=100)
    robot.send_pair(first_ns, depth=depth_msg(first_ns + 1))
    robot.ask()
    assert robot.results_for(first_ns) == []


def test_latest_mode_pairs_whatever_came_last(robot):
    reconfigure(robot, sync__mode="latest")
    stamp_ns = robot.next_stamp(periods=100)
    robot.send_pair(stamp_ns, depth=depth_msg(stamp_ns - 700 * NS_PER_MS))
    offset = robot.answer(stamp_ns).depth_offset
    assert offset.sec * 1_000_000_000 + offset.nanosec == -700 * NS_PER_MS


def test_unstamped_images_pair_by_arrival_where_that_is_asked_for(robot):
    # On a busy machine the two images of a pair may arrive far apart.
    reconfigure(robot, sync__mode="nearest", sync__use_arrival_time=True, sync__tolerance=0.5)
    known = len(robot.results)
    began_ns = time.time_ns()
    robot.send_pair(0)
    robot.wait_for(lambda: len(robot.results) > known, "the answer")
    msg = robot.results[-1]
    # The time of arrival stands in: for ages, for tracks, and for those who look transforms up.
    assert began_ns < stamp_ns_of(msg) < time.time_ns()
    assert 0.0 <= msg.age_ms < 10_000.0
