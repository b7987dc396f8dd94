"""What the doctor says of rates, stamps, pairs and clocks."""

from __future__ import annotations

import pytest

from calibnet_ros.doctor.findings import Verdict
from calibnet_ros.doctor.time_checks import (
    check_clocks,
    check_pairing,
    check_rates,
    check_stamps,
    check_transport,
    needs_simulated_time,
)
from tests.calibnet_ros.doctor.sound import (
    COUNT,
    PERIOD_NS,
    START_NS,
    bad,
    facts,
    only,
    stamps,
    stream,
)

COLOR = stream("rgb8")


def depth_at(*, offset_ns: int = 0, **options: int) -> dict[str, object]:
    stamped = stamps(start_ns=START_NS + offset_ns, **options)
    return {"streams": {"color": COLOR, "depth": stream("16UC1", stamps_ns=stamped)}}


def test_a_low_rate_of_aligned_depth_is_the_inputs_fault() -> None:
    given = facts(**depth_at(period_ns=2 * PERIOD_NS, count=COUNT // 2))
    only(
        check_rates,
        given,
        Verdict.NOTE,
        "depth comes at 15.0 Hz and colour at 30.0 Hz",
        "the input's doing, not the node's",
    )


def test_slow_and_uneven_streams_are_told() -> None:
    slow = stream("rgb8", stamps_ns=stamps(5, period_ns=10 * PERIOD_NS))
    only(check_rates, facts(streams={"color": slow}), Verdict.NOTE, "3.0 Hz", "that is slow")
    uneven = [START_NS + (index + index // 3 * 2) * PERIOD_NS for index in range(30)]
    given = facts(streams={"color": stream("rgb8", stamps_ns=uneven)})
    only(check_rates, given, Verdict.NOTE, "longest gap 100 ms", "missing between")


def test_images_lost_on_the_way_are_told_with_the_profile() -> None:
    given = facts(elapsed_s=5.0)
    assert all("of about 150" in finding.text for finding in bad(check_transport, given))
    assert "FASTRTPS_DEFAULT_PROFILES_FILE" in bad(check_transport, given)[0].remedy


def test_stamps_that_are_zero_repeat_or_go_back_are_told() -> None:
    zero = stream("rgb8", stamps_ns=[0, 0, START_NS])
    only(
        check_stamps,
        facts(streams={"color": zero}),
        Verdict.MEND,
        "2 of 3 colour images have no stamp",
        "sync.use_arrival_time:=true",
    )
    odd = stream("rgb8", stamps_ns=[START_NS, START_NS, START_NS + 5, START_NS])
    repeated, backward = bad(check_stamps, facts(streams={"color": odd}))
    assert "1 colour images repeat" in repeated.text
    assert "went back 1 times" in backward.text


def test_pairs_are_counted_with_their_offset_against_the_tolerance_of_the_node() -> None:
    (finding,) = check_pairing(facts(**depth_at(offset_ns=4_000_000)))
    assert finding.verdict is Verdict.GOOD
    assert "60 of 60" in finding.text
    assert (
        "+4.0 ms from colour (largest 4.0 ms, the automatic tolerance is 15.0 ms)" in finding.text
    )


@pytest.mark.parametrize(
    ("offset_ns", "parts"),
    [
        (16_000_000, ("1 of 60", "16 ms", "sync.tolerance:=0.02")),
        (3_600_000_000_000, ("not one of 60", "different clocks", "sync.use_arrival_time:=true")),
    ],
)
def test_streams_that_never_pair_are_told_with_the_distance_and_the_way_out(
    offset_ns: int, parts: tuple[str, ...]
) -> None:
    only(check_pairing, facts(**depth_at(offset_ns=offset_ns)), Verdict.MEND, *parts)


def test_images_without_partner_are_counted_by_reason() -> None:
    half = [stamp + 16_000_000 * (index % 2) for index, stamp in enumerate(stamps())]
    given = facts(streams={"color": COLOR, "depth": stream("16UC1", stamps_ns=half)})
    only(check_pairing, given, Verdict.NOTE, "30 of 60", "colour (no_partner)")


def test_a_loop_is_told_and_its_pairs_still_count() -> None:
    twice = stamps() + stamps()
    given = facts(
        streams={"color": stream("rgb8", stamps_ns=twice), "depth": stream("x", stamps_ns=twice)}
    )
    only(check_pairing, given, Verdict.NOTE, "time jumped back 1 times")


@pytest.mark.parametrize(
    ("age_s", "verdict", "part"),
    [
        (-5.0, Verdict.MEND, "5.0 s ahead"),
        (3.0, Verdict.NOTE, "3.0 s old"),
        (7200.0, Verdict.NOTE, "2 hours behind"),
        (8e7, Verdict.NOTE, "3 years behind"),
    ],
)
def test_clocks_that_disagree_are_told(age_s: float, verdict: Verdict, part: str) -> None:
    given = facts(streams={"color": stream("rgb8", ages_s=[age_s])})
    only(check_clocks, given, verdict, part)
    assert not needs_simulated_time(given.inputs)


def test_simulated_time_is_judged_by_what_the_images_follow() -> None:
    past = {"color": stream("rgb8", ages_s=[8e7])}
    newest_s = COLOR.stamps_ns[-1] / 1e9
    played = facts(streams=past, clock_publishers=("/player",), clock_s=newest_s)
    assert bad(check_clocks, played) == []
    assert needs_simulated_time(played.inputs)
    other = facts(streams=past, clock_publishers=("/gazebo",), clock_s=12.0)
    only(check_clocks, other, Verdict.MEND, "/gazebo publishes /clock", "follow neither")
    useless = facts(clock_publishers=("/gazebo",), clock_s=12.0)
    only(check_clocks, useless, Verdict.NOTE, "bear this machine's time")
    two = facts(streams=past, clock_publishers=("/a", "/b"), clock_s=newest_s)
    only(check_clocks, two, Verdict.MEND, "/clock has 2 publishers (/a, /b)")
