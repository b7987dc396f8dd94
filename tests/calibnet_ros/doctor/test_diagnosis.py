"""All checks together: sound facts are good, and no facts, however mad, break the doctor."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from calibnet_core.perception.input_statistics import DepthSummary
from calibnet_ros.doctor.diagnosis import CHECKS, diagnose
from calibnet_ros.doctor.facts import Choice, Facts, Form, InfoFacts, StreamFacts
from calibnet_ros.doctor.findings import Verdict
from calibnet_ros.doctor.presenting import show, to_json
from tests.calibnet_ros.doctor.sound import IN_PLACE, PRESET, facts, machine, topic

NUMBERS = st.floats(allow_nan=True, allow_infinity=True, width=32)
STAMPS = st.lists(st.integers(-(2**63), 2**63), max_size=8)
TEXTS = st.text(max_size=12)
SIZES = st.none() | st.tuples(st.integers(0, 2**32), st.integers(0, 2**32))
STREAMS = st.builds(
    StreamFacts,
    stamps_ns=STAMPS,
    ages_s=st.lists(NUMBERS, max_size=4),
    forms=st.dictionaries(st.builds(Form, TEXTS, SIZES, TEXTS), st.integers(1, 9), max_size=3),
    num_damaged=st.integers(0, 3),
    refusal=TEXTS,
    image_bytes=st.integers(0, 2**40),
)
INFOS = st.builds(
    InfoFacts,
    size=st.tuples(st.integers(0, 2**32), st.integers(0, 2**32)),
    frame_id=TEXTS,
    pinhole=st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS),
    d=st.lists(NUMBERS, max_size=14).map(tuple),
    distortion_model=st.sampled_from(["plumb_bob", "equidistant", ""]) | TEXTS,
)
DEPTHS = st.none() | st.builds(
    DepthSummary,
    num_images=st.integers(0, 5),
    valid_share=st.floats(0, 1),
    median_m=NUMBERS,
    near_m=NUMBERS,
    far_m=NUMBERS,
)
MAD_FACTS = st.builds(
    facts,
    source=st.sampled_from(["live", "a bag; rm -rf /"]),
    topics=st.lists(st.sampled_from([PRESET.color, PRESET.depth, "/x"]), unique=True).map(
        lambda names: tuple(map(topic, names))
    ),
    choice=st.builds(Choice, color=TEXTS, depth=TEXTS, info=TEXTS)
    | st.just(Choice(color=PRESET.color, depth=PRESET.depth)),
    streams=st.fixed_dictionaries({}, optional={"color": STREAMS, "depth": STREAMS}),
    infos=st.fixed_dictionaries({}, optional={"info": INFOS, "depth_info": INFOS}),
    depth=DEPTHS,
    agreement=st.none()
    | st.builds(lambda value: replace(IN_PLACE, distinctness=value, gain=value), NUMBERS),
    clock_publishers=st.lists(TEXTS, max_size=2).map(tuple),
    clock_s=st.none() | NUMBERS,
    elapsed_s=st.floats(0, 10),
    failure=TEXTS,
    machine=st.builds(machine, domain_id=TEXTS, operator_cuda=TEXTS, discovery_range=TEXTS),
)


def test_a_sound_camera_on_a_sound_machine_is_good_in_every_respect() -> None:
    diagnosis = diagnose(facts())
    assert [f for f in diagnosis.findings if f.verdict is not Verdict.GOOD] == []
    assert diagnosis.verdict is Verdict.GOOD
    assert len(diagnosis.findings) > 12


@given(MAD_FACTS)
@settings(max_examples=60)
def test_no_facts_break_a_check_the_text_or_the_json(mad: Facts) -> None:
    for check in CHECKS:
        for finding in check(mad):  # not through `diagnose`, which would hide what it raises
            assert finding.text
            assert finding.verdict is not Verdict.MEND or finding.remedy
    diagnosis = diagnose(mad)
    show(diagnosis, Console(file=StringIO(), width=60))
    assert json.loads(to_json(diagnosis, mad))["verdict"] == diagnosis.verdict.value


def test_a_check_that_fails_becomes_a_finding_and_hides_no_other() -> None:
    broken = facts(depth="no summary")
    diagnosis = diagnose(broken)
    assert any("check_depth failed with AttributeError" in f.text for f in diagnosis.findings)
    assert any("the edges agree" in f.text for f in diagnosis.findings)


def test_text_that_is_no_terminal_is_plain_and_keeps_each_sentence_on_its_line() -> None:
    diagnosis = diagnose(facts(infos={}))
    file = StringIO()
    show(diagnosis, Console(file=file, width=40))
    lines = file.getvalue().splitlines()
    assert "\x1b" not in file.getvalue()
    (fault,) = [line for line in lines if line.startswith("  MEND")]
    assert fault.endswith("without it masks are published but no 3D.")
    assert lines[lines.index(fault) + 1].startswith("        -> ")
    assert "1 thing must be mended before the node gives what it is there for." in lines
    assert f"  {diagnosis.launch_line}" in lines


def test_a_terminal_gets_colours_and_lines_that_fit_except_those_to_copy() -> None:
    file = StringIO()
    diagnosis = diagnose(facts(infos={}))
    show(diagnosis, Console(file=file, width=72, force_terminal=True, color_system=None))
    long = [line for line in file.getvalue().splitlines() if len(line.rstrip()) > 72]
    assert {line.strip() for line in long} <= {diagnosis.launch_line, *diagnosis.node_lines}
