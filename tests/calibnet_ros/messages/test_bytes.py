"""Bytes reach their message in one piece: one by one they would cost a tenth of a second."""

from __future__ import annotations

import array
import ast

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from calibnet_ros.msg import InstanceMask
from sensor_msgs.msg import CompressedImage, Image, PointCloud2

from calibnet_core.perception.mask_codec import MaskEncoding
from calibnet_ros.messages import (
    OUTPUTS,
    FrameAccount,
    OutputOptions,
    instance_cloud_to_msg,
    instances_to_msg,
)
from tests.support.perceptions import discs, known_geometry, make_perception
from tests.support.shared import REPOSITORY

pytestmark = pytest.mark.ros

FIELDS = ((Image, "data"), (CompressedImage, "data"), (PointCloud2, "data"))
# Each costs no more than a copy of the memory.
WHOLE = {"byte_array", "array.array"}
SOURCES = sorted((REPOSITORY / "calibnet_ros").rglob("*.py"))


@pytest.fixture(scope="module")
def perception():
    count = 5
    return make_perception(
        discs((720, 1280), count),
        geometry=[known_geometry(seed) for seed in range(count)],
        track_ids=range(1, count + 1),
    )


@pytest.fixture
def given(monkeypatch):
    """What the setters of byte fields are given, without the empty default of each message."""
    seen = []

    def spy(message, name):
        field = getattr(message, name)

        def setter(self, value):
            if len(value):
                seen.append(value)
            field.fset(self, value)

        monkeypatch.setattr(message, name, property(field.fget, setter))

    for message, name in (*FIELDS, (InstanceMask, "mask_data")):
        spy(message, name)
    return seen


def assert_whole(given):
    assert [type(value) for value in given] == [array.array] * len(given)
    assert {value.typecode for value in given} == {"B"}


@pytest.mark.parametrize("output", OUTPUTS, ids=lambda output: output.name)
def test_every_output_hands_its_bytes_over_in_one_piece(output, perception, given):
    msg = output.make(perception, OutputOptions())
    if not hasattr(msg, "data"):
        assert given == []
        return
    assert type(msg.data) is array.array
    assert sum(len(value) for value in given) == len(msg.data) > 0
    assert_whole(given)


@pytest.mark.parametrize("encoding", list(MaskEncoding))
def test_masks_and_clouds_do_so_too(encoding, perception, given):
    options = OutputOptions(mask_encoding=encoding)
    instances_to_msg(perception, FrameAccount(sequence=1), options)
    assert len(given) == (0 if encoding is MaskEncoding.NONE else len(perception))
    instance_cloud_to_msg(perception, 0)
    assert_whole(given)


def test_no_module_gives_bytes_to_a_message_in_any_other_way():
    """A static look at every `x.data = value` and `f(data=value)`, for messages not made above."""
    found = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            values = []
            if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                if any(isinstance(t, ast.Attribute) and is_bytes(t.attr) for t in targets):
                    values.append(node.value)
            elif isinstance(node, ast.Call):
                values += [entry.value for entry in node.keywords if is_bytes(entry.arg)]
            for value in values:
                found[f"{path.relative_to(REPOSITORY)}:{value.lineno}"] = ast.unparse(value)
    assert len(found) >= 5  # else it looks at nothing
    assert {
        place: text for place, text in found.items() if text.partition("(")[0] not in WHOLE
    } == {}


def is_bytes(name):
    return name in ("data", "mask_data")
