"""The recording of the answers."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.rosbag2 import Reader

from calibnet_core.data.bags import open_rgbd_bag
from calibnet_ros import msg as calibnet_msgs
from calibnet_ros.evaluate_bag import evaluate_recording
from calibnet_ros.evaluate_bag.result_bag import ResultBag, message_types
from calibnet_ros.messages import OUTPUTS
from calibnet_ros.parameter_schema import DEFAULTS
from tests.calibnet_ros.evaluate_bag.recordings import make_stub

pytestmark = pytest.mark.ros

VALUES = {**DEFAULTS, "detection.min_area": 4}


def test_every_output_is_recorded_and_reads_back_equal(tmp_path: Path, recording: Path) -> None:
    answers = list(evaluate_recording(open_rgbd_bag(recording), make_stub(VALUES), VALUES))[:2]
    written = []
    with ResultBag(tmp_path / "results") as results:
        for answer in answers:
            for name, message in answer.messages():
                results.write(name, message, answer.log_ns)
                written.append((f"/calibnet/{name}", message, answer.log_ns))
    classes = {"/calibnet/instances": calibnet_msgs.InstanceMaskArray}
    classes |= {f"/calibnet/{output.name}": output.msg_type for output in OUTPUTS}
    assert {topic for topic, _, _ in written} == classes.keys()
    with Reader(tmp_path / "results") as reader:
        read = list(reader.messages())
        assert len(read) == len(written)
        for (connection, log_ns, cdr), (topic, message, written_ns) in zip(
            read, written, strict=True
        ):
            assert (connection.topic, log_ns) == (topic, written_ns)
            # Fields of 32 bits lose digits on the way. Text, for NaN equals nothing and the gaps
            # between serialised fields hold anything.
            sent = deserialize_message(serialize_message(message), classes[topic])
            assert repr(deserialize_message(cdr, classes[topic])) == repr(sent)
            # Whoever reads with the definitions alone gets the same.
            message_types().deserialize_cdr(cdr, connection.msgtype)


def test_the_custom_message_reads_without_ros(tmp_path: Path) -> None:
    message = calibnet_msgs.InstanceMaskArray(sequence=7, model_id="stub", age_ms=math.nan)
    message.instances = [calibnet_msgs.InstanceMask(track_id=2**40, label="thing")]
    with ResultBag(tmp_path / "results") as results:
        results.write("instances", message, 5, is_latched=True)
    with Reader(tmp_path / "results") as reader:
        ((connection, _, cdr),) = reader.messages()
        found = message_types().deserialize_cdr(cdr, connection.msgtype)
        assert connection.msgtype == "calibnet_ros/msg/InstanceMaskArray"
        assert connection.ext.offered_qos_profiles[0].durability.name == "TRANSIENT_LOCAL"
    assert (found.sequence, found.instances[0].track_id) == (7, 2**40)
    assert found.instances[0].MASK_ENCODING_RLE == 3
