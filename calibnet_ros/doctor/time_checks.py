"""Rates, stamps, clocks and pairs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator

from calibnet_core.perception.input_statistics import (
    PairingTrial,
    StampSummary,
    summarise_stamps,
    try_pairing,
)
from calibnet_ros.doctor.facts import ROLE_NAMES, Facts, InputFacts, Role
from calibnet_ros.doctor.findings import Finding, Theme, good, mend, note

_THEME = Theme.TIME
_IMAGES: tuple[Role, ...] = ("color", "depth")
_LOW_RATE_HZ = 5.0
_FUTURE_S = 1.0  # beyond this the node cannot tell ages (its own limit)
_OTHER_TIME_S = 30.0  # older images come from a recording or from another clock
_LATE_S = 1.0
_MAX_TOLERANCE_S = 0.5  # the largest that sync.tolerance takes


def check_rates(facts: Facts) -> Iterator[Finding]:
    """How often do images come, how evenly, and which stream holds the other back?"""
    stamps = _summaries(facts.inputs)
    for role, summary in stamps.items():
        label = ROLE_NAMES[role]
        if not summary.rate_hz:
            if summary.count > 1 and summary.num_zero < summary.count:
                yield note(_THEME, f"{label} has no measurable rate: its stamps do not rise.")
            continue
        jitter = summary.jitter_s / summary.period_s
        text = (
            f"{label} has {summary.rate_hz:.1f} Hz by its stamps, jitter "
            f"{summary.jitter_s * 1e3:.1f} ms, longest gap {summary.longest_gap_s * 1e3:.0f} ms"
        )
        if summary.rate_hz < _LOW_RATE_HZ:
            yield note(_THEME, f"{text}: that is slow.", "see the driver's rate and exposure")
        elif jitter > 0.5:
            yield note(
                _THEME,
                f"{text}: images are missing between, or the driver stamps unevenly.",
                "see the driver's log, its USB link and the load of its machine",
            )
        else:
            yield good(_THEME, text + ".")
    if len(stamps) == 2 and all(summary.rate_hz for summary in stamps.values()):
        color, depth = (stamps[role].rate_hz for role in _IMAGES)
        if depth < 0.8 * color:
            yield note(
                _THEME,
                f"depth comes at {depth:.1f} Hz and colour at {color:.1f} Hz, so there can be no "
                f"more than {depth:.1f} results a second: the input's doing, not the node's.",
                "aligning depth costs the driver time: lower its resolution, or let it run on a "
                "faster machine",
            )


def check_transport(facts: Facts) -> Iterator[Finding]:
    """Did as many images arrive as were stamped?"""
    inputs = facts.inputs
    if not inputs.is_live:
        return
    for role, summary in _summaries(inputs).items():
        expected = inputs.elapsed_s * summary.rate_hz
        lost = 1.0 - summary.count / expected if expected > 0 else 0.0
        if lost > 0.2 and expected >= 5:
            yield note(
                _THEME,
                f"of about {expected:.0f} {ROLE_NAMES[role]} images {summary.count} came: the "
                "stream began late, or a share is lost on the way.",
                f"set {facts.machine.profile_variable} to the package's profile for the driver and "
                "for the node; across machines use a compressed transport",
            )


def check_stamps(facts: Facts) -> Iterator[Finding]:
    """Are the stamps there, and do they rise?"""
    for role, summary in _summaries(facts.inputs).items():
        label = ROLE_NAMES[role]
        if summary.num_zero:
            yield mend(
                _THEME,
                f"{summary.num_zero} of {summary.count} {label} images have no stamp (zero), so "
                "they cannot be paired.",
                "let the driver stamp its images, or set the parameter "
                "sync.use_arrival_time:=true (less exact)",
            )
        if summary.num_repeated:
            yield note(
                _THEME,
                f"{summary.num_repeated} {label} images repeat the stamp of the one before; the "
                "node keeps the first.",
                "see whether two publishers share the topic",
            )
        if summary.num_backward:
            yield note(
                _THEME,
                f"{label} stamps went back {summary.num_backward} times.",
                "a bag that loops does this and is handled; in a live stream look for a second "
                "publisher, or a clock that is being set",
            )


def check_pairing(facts: Facts) -> Iterator[Finding]:
    """Would the node's pairer find pairs?"""
    stamps = _summaries(facts.inputs)
    if len(stamps) < 2:
        return
    usable = {role: summary.count - summary.num_zero for role, summary in stamps.items()}
    possible = min(usable.values())
    if possible < 1:
        return
    trial = try_pairing(facts.inputs.arrivals)
    share = trial.num_pairs / possible
    # Before the period is known the pairer takes what comes, so one pair in many is none.
    if trial.num_pairs == 0 or share < 0.1:
        yield _no_pairs(trial, possible)
        return
    text = (
        f"{trial.num_pairs} of {possible} possible pairs were made; depth is "
        f"{trial.offset_median_s * 1e3:+.1f} ms from colour (largest {trial.offset_max_s * 1e3:.1f}"
        f" ms, the automatic tolerance is {trial.tolerance_s * 1e3:.1f} ms)"
    )
    # Whatever waits when the listening ends is no loss: at most the pairer's queue.
    if share >= 0.8 or possible - trial.num_pairs <= 2:
        yield good(_THEME, text + ".")
    else:
        unpaired = ", ".join(
            f"{count} {stream} ({reason})"
            for stream, reasons in (
                ("colour", trial.unpaired_color),
                ("depth", trial.unpaired_depth),
            )
            for reason, count in reasons.items()
        )
        yield note(
            _THEME,
            f"{text}; without partner: {unpaired or 'those that still wait'}.",
            "let the driver synchronise its streams, or set the parameter sync.tolerance",
        )
    if trial.num_backward_jumps:
        yield note(
            _THEME,
            f"time jumped back {trial.num_backward_jumps} times, as in a bag that loops; the node "
            "starts pairing and tracking anew each time.",
        )


def check_clocks(facts: Facts) -> Iterator[Finding]:
    """Do the stamps agree with the clock that the node will read?"""
    inputs = facts.inputs
    if not inputs.is_live:
        yield note(
            _THEME,
            "recorded stamps lie in the past.",
            "play the recording with its clock (--clock) and run the node with use_sim_time, as "
            "the launch file's argument `bag` does; otherwise age_ms is NaN",
        )
        return
    if len(inputs.clock_publishers) > 1:
        yield mend(
            _THEME,
            f"/clock has {len(inputs.clock_publishers)} publishers "
            f"({', '.join(inputs.clock_publishers)}), so simulated time jumps back and forth.",
            "end all but one: a simulator, or one `ros2 bag play --clock`",
        )
    ages_s = [age for role in _IMAGES if role in inputs.streams for age in _ages(inputs, role)]
    if not ages_s:
        return
    age_s = statistics.median(ages_s)
    if inputs.clock_publishers:
        yield from _simulated(inputs, age_s)
    elif age_s < -_FUTURE_S:
        yield mend(
            _THEME,
            f"the stamps are {-age_s:.1f} s ahead of this machine's clock.",
            "synchronise the clocks of both machines (chrony, PTP); ages are NaN until then",
        )
    elif age_s > _OTHER_TIME_S:
        yield note(
            _THEME,
            f"the stamps are {_duration(age_s)} behind this machine's clock and nobody publishes "
            "/clock: a bag plays without its clock, or the driver uses a clock of its own.",
            "play the bag with --clock and set use_sim_time:=true; for a driver, let it stamp with "
            "system time; until then ages mean nothing",
        )
    elif age_s > _LATE_S:
        yield note(
            _THEME,
            f"images are {age_s:.1f} s old when they arrive.",
            "look for a slow network, a queue before the driver, or clocks that disagree",
        )
    else:
        yield good(
            _THEME,
            f"stamps agree with this machine's clock: images are {age_s * 1e3:.0f} ms old.",
        )


def needs_simulated_time(inputs: InputFacts) -> bool:
    """Whether the stamps follow /clock and not this machine's time."""
    if not inputs.is_live or not inputs.clock_publishers:
        return False
    ages_s = [age for role in _IMAGES if role in inputs.streams for age in _ages(inputs, role)]
    return not ages_s or abs(statistics.median(ages_s)) > _LATE_S


def _simulated(inputs: InputFacts, age_s: float) -> Iterator[Finding]:
    who = inputs.clock_publishers[0]
    if not needs_simulated_time(inputs):
        yield note(
            _THEME,
            f"{who} publishes /clock, but the images bear this machine's time.",
            "leave use_sim_time false, and end the publisher of /clock if nothing needs it",
        )
        return
    if inputs.clock_s is None:
        yield note(
            _THEME,
            f"{who} offers /clock but sent no time: it is paused, or about to begin.",
            "let it play, and run the doctor again",
        )
        return
    newest_ns = max(
        (stamp for role in _IMAGES if role in inputs.streams for stamp in _stamps(inputs, role)),
        default=0,
    )
    if abs(inputs.clock_s - newest_ns / 1e9) <= _OTHER_TIME_S:
        yield good(
            _THEME,
            f"{who} publishes /clock and the images follow it; run the node with use_sim_time "
            "(the lines at the end do).",
        )
    else:
        yield mend(
            _THEME,
            f"{who} publishes /clock, but the images follow neither it nor this machine's clock "
            f"(they are {_duration(abs(age_s))} from the latter).",
            "play the bag that the images come from with --clock, and no other clock beside it",
        )


def _no_pairs(trial: PairingTrial, possible: int) -> Finding:
    if possible < 3:
        return note(
            _THEME,
            f"only {possible} images of a stream came, too few to see whether they pair.",
            "give a longer --duration",
        )
    remedy = "let the driver synchronise its streams (RealSense: enable_sync:=true); or "
    if trial.nearest_s < _MAX_TOLERANCE_S:
        tolerance_s = min(_MAX_TOLERANCE_S, math.ceil(trial.nearest_s * 1200) / 1000)
        remedy += (
            f"set the parameter sync.tolerance:={tolerance_s:g}, if depth of another moment will do"
        )
    else:
        remedy += (
            "the streams bear times of different clocks: let both be stamped by one, or set "
            "sync.use_arrival_time:=true"
        )
    count, was = trial.num_pairs or "not one", "were" if trial.num_pairs > 1 else "was"
    return mend(
        _THEME,
        f"{count} of {possible} possible pairs {was} made: the nearest depth lies "
        f"{trial.nearest_s * 1e3:.0f} ms from its colour image, the automatic tolerance is "
        f"{trial.tolerance_s * 1e3:.1f} ms.",
        remedy,
    )


def _summaries(inputs: InputFacts) -> dict[Role, StampSummary]:
    return {
        role: summarise_stamps(inputs.streams[role].stamps_ns)
        for role in _IMAGES
        if role in inputs.streams and inputs.streams[role].stamps_ns
    }


def _ages(inputs: InputFacts, role: Role) -> list[float]:
    return inputs.streams[role].ages_s


def _stamps(inputs: InputFacts, role: Role) -> list[int]:
    return inputs.streams[role].stamps_ns


def _duration(seconds: float) -> str:
    for size, unit in ((365 * 86400.0, "years"), (86400.0, "days"), (3600.0, "hours")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
