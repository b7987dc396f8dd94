"""What the worker does with the pairs at hand, called here in place of the worker."""

from __future__ import annotations

import itertools
import math
import threading
import time
from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

import rclpy
from calibnet_ros.action import Segment
from rclpy.lifecycle import LifecycleNode

from calibnet_core.perception.accounting import DropReason
from calibnet_core.perception.rigid import RigidTransform
from calibnet_core.processor import OutOfDeviceMemoryError, Processor
from calibnet_ros import inference as module
from calibnet_ros.inference import FAILURES_UNTIL_ERROR, Inference
from calibnet_ros.parameter_schema import DEFAULTS
from calibnet_ros.parameters import processor_settings
from calibnet_ros.reports import Reporter
from calibnet_ros.requests import Code, FrameRequest, FrameRequests
from calibnet_ros.stream import Camera, Stream
from calibnet_ros.transforms import TransformError
from tests.support.ros import camera_info_msg, color_msg, depth_msg
from tests.support.stub_predictor import StubPredictor

pytestmark = pytest.mark.ros

IDENTITY = RigidTransform.from_quaternion((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))


class FailingPredictor(StubPredictor):
    """Raises what it is given until that is taken away."""

    error = None

    def predict_frame(self, frame, settings, scale):
        if self.error is not None:
            raise self.error
        return super().predict_frame(frame, settings, scale)


class Bench:
    """Two cameras, and what their publishers were given for `~/instances`."""

    def __init__(self, transforms=None, **values):
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = LifecycleNode("inferring", context=self.context)
        self.values = {**DEFAULTS, **values}
        self.predictor = FailingPredictor()
        self.given_up = []
        changed = threading.Condition()
        self.cameras, self.streams, self.published = [], [], []
        for name in ("left", "right"):
            reporter = Reporter(self.node.get_logger(), name)
            requests = FrameRequests(self.node, str)
            camera = Camera(self.node, name, self.values, reporter=reporter, requests=requests)
            stream = Stream.open(
                self.node, camera, self.values, changed=changed, is_wanted=lambda stamp_ns: True
            )
            stream.input.intake.add_info(camera_info_msg())
            camera.outputs._instances.publish = self.published.append
            self.cameras.append(camera)
            self.streams.append(stream)
        self.inference = Inference(
            self.node,
            Processor(self.predictor, processor_settings(self.values)),
            self.streams,
            self.values,
            transforms=transforms,
            lock=threading.Lock(),
            give_up=self.given_up.append,
        )
        self._stamps_ns = itertools.count(time.time_ns(), 100_000_000)

    def see(self, *, places=(0,), cut_short=False):
        """Have the cameras at `places` answered together."""
        items = []
        for place in places:
            stream, stamp_ns = self.streams[place], next(self._stamps_ns)
            depth = depth_msg(stamp_ns)
            if cut_short:
                depth.encoding = "32FC1"  # so that half of the bytes are missing
                depth.step *= 2
                depth.data = depth.data * 2
                depth.height, depth.width = depth.height // 2, depth.width
            stream.input.intake.add_depth(depth)
            stream.input.intake.add_color(color_msg(stamp_ns))
            items.append((stream.mailbox, stream.mailbox.take(timeout_s=0)))
        self.inference.handle(items)
        for stream in self.streams:
            counts = stream.snapshot()
            counts.check()
            assert counts.in_flight == 0

    def ask(self, place=0, **fields):
        """A request that waits; its `reply` holds the answer."""
        given = {
            "not_before_ns": 0,
            "timeout_s": 60.0,
            "score_threshold": None,
            "include_label_image": False,
            "include_cloud": False,
        }
        request = FrameRequest(**given | fields)
        self.cameras[place].requests.wait(request).send(None)
        return request

    def dropped(self, place=0):
        return dict(self.streams[place].snapshot().dropped_pairs)

    def close(self):
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def make_bench():
    benches = []

    def make(*args, **values):
        benches.append(Bench(*args, **values))
        return benches[-1]

    yield make
    for bench in benches:
        bench.close()


@pytest.fixture
def bench(make_bench):
    return make_bench()


def broken(*args, **options):
    raise ArithmeticError("out of luck")


def test_every_camera_is_answered_and_numbered_by_itself(bench):
    bench.see(places=(0, 1))
    bench.see(places=(0,))
    assert [msg.sequence for msg in bench.published] == [1, 1, 2]
    assert [len(msg.instances) for msg in bench.published] == [2, 2, 2]
    assert [stream.snapshot().published for stream in bench.streams] == [2, 1]
    assert [len(camera.remembered()) for camera in bench.cameras] == [2, 1]
    assert bench.published[0].queue_ms >= 0
    assert float(bench.streams[0].figures.values()["latency_p50_ms"]) > 0


def test_a_request_with_the_usual_threshold_gets_what_is_published(bench):
    request = bench.ask(include_label_image=True, include_cloud=True)
    bench.see()
    reply = request.reply.result()
    assert reply.code == Code.OK
    assert reply.parts["instances"] is bench.published[0]
    assert reply.parts["label_image"].encoding == "mono16"
    assert reply.parts["cloud"].width > 0


def test_a_request_with_a_threshold_of_its_own_gets_its_own_answer_with_an_age(bench):
    request = bench.ask(score_threshold=0.85)
    bench.see()
    (published,) = bench.published
    own = request.reply.result().parts["instances"]
    assert (len(published.instances), len(own.instances)) == (2, 1)
    assert (published.sequence, own.sequence) == (1, 0)
    assert own.header == published.header
    assert not math.isnan(own.age_ms)


def test_while_paused_only_who_asks_is_answered(bench):
    bench.inference.is_enabled = False
    bench.see()
    request = bench.ask()
    bench.see()
    assert bench.published == []
    assert len(request.reply.result().parts["instances"].instances) == 2
    assert bench.dropped() == {DropReason.PAUSED: 2}


def test_an_answer_that_cannot_be_put_together_fails_the_request_and_not_the_result(
    bench, monkeypatch
):
    monkeypatch.setattr(module, "label_image_to_msg", broken)
    hopeless, modest = bench.ask(include_label_image=True), bench.ask()
    bench.see()
    assert hopeless.reply.result().code == Code.FAILED
    assert "out of luck" in hopeless.reply.result().message
    assert modest.reply.result().code == Code.OK
    assert len(bench.published) == bench.streams[0].snapshot().published == 1
    assert bench.given_up == []


def test_a_client_that_cannot_be_told_of_stages_costs_nobody_the_answer(bench):
    stages = []
    bench.ask(on_stage=broken)
    request = bench.ask(on_stage=stages.append)
    bench.see()
    assert request.reply.result().code == Code.OK
    assert stages == [Segment.Feedback.INFERRING, Segment.Feedback.LIFTING]
    assert len(bench.published) == 1


def test_a_frame_that_cannot_be_processed_ends_its_request_with_the_reason(bench):
    bench.predictor.error = RuntimeError("no answer")
    request = bench.ask()
    bench.see()
    assert request.reply.result().code == Code.FAILED
    assert "no answer" in request.reply.result().message
    assert bench.dropped() == {DropReason.INFERENCE_ERROR: 1}
    assert bench.published == []


def test_a_bad_image_of_one_camera_costs_the_other_nothing_and_is_no_failure(bench):
    for _ in range(FAILURES_UNTIL_ERROR + 1):
        bench.see(places=(0,), cut_short=True)
        bench.see(places=(1,))
    assert bench.dropped(0) == {DropReason.SIZE_MISMATCH: FAILURES_UNTIL_ERROR + 1}
    assert bench.streams[1].snapshot().published == FAILURES_UNTIL_ERROR + 1
    assert bench.given_up == []


def test_failures_in_a_row_give_up_with_the_last_ones_reason_and_a_success_forgets_them(bench):
    bench.predictor.error = RuntimeError("no answer")
    for _ in range(FAILURES_UNTIL_ERROR - 1):
        bench.see()
    bench.predictor.error = None
    bench.see()
    bench.predictor.error = RuntimeError("no answer")
    for _ in range(FAILURES_UNTIL_ERROR - 1):
        bench.see()
    assert bench.given_up == []
    bench.see()
    assert bench.given_up == [
        "3 inferences in a row failed; the last: inference failed: RuntimeError: no answer"
    ]


def test_a_device_without_memory_is_given_up_at_once(bench):
    bench.predictor.error = OutOfDeviceMemoryError("too little memory")
    bench.see()
    assert bench.given_up == ["too little memory"]


def test_after_the_activations_end_nothing_is_published_and_who_asked_is_told(bench):
    request = bench.ask()
    bench.inference.is_current = False
    bench.see()
    assert request.reply.result().code == Code.NOT_ACTIVE
    assert bench.published == []
    assert bench.dropped() == {DropReason.SHUTDOWN: 1}


def test_pairs_that_are_too_old_are_dropped_unless_somebody_asked(make_bench):
    bench = make_bench(**{"input.max_age": 5.0})
    bench._stamps_ns = itertools.count(time.time_ns() - 10 * 10**9)
    bench.see()
    assert bench.dropped() == {DropReason.TOO_OLD: 1}
    request = bench.ask()
    bench.see()
    assert request.reply.result().code == Code.OK


class Moving(SimpleNamespace):
    """Transforms that are what a test says."""

    target, up = "base_link", IDENTITY.up

    def to_target(self, source, stamp_ns, timeout_s):
        if self.error is not None:
            raise self.error
        return IDENTITY

    def broadcast(self, perception, prefix):
        self.prefixes.append(prefix)


@pytest.mark.parametrize("kind", [TransformError, RuntimeError])
def test_without_a_transform_the_result_goes_out_and_what_was_withheld_is_counted(make_bench, kind):
    moving = Moving(error=kind("nobody knows base_link"), prefixes=[])
    bench = make_bench(moving)
    moved = []
    outputs = bench.cameras[0].outputs
    outputs.publish_transformed = lambda *args: moved.append(args)
    bench.see()
    assert (len(bench.published), bench.streams[0].withheld) == (1, 0)  # nobody listens there
    outputs.has_listeners_in_target = lambda: True
    bench.see()
    assert (len(bench.published), moved, bench.streams[0].withheld) == (2, [], 1)
    assert "nobody knows base_link" in bench.cameras[0].reporter.last_error
    moving.error = None
    bench.see()
    assert moved[0][0].frame.frame_id == "base_link"
    assert moving.prefixes == ["inferring/left/"] * 3  # objects are told in the camera's own frame


def test_a_broadcast_that_fails_does_not_unmake_the_result(make_bench):
    moving = Moving(error=None, prefixes=[], broadcast=broken)
    bench = make_bench(moving)
    bench.see()
    assert len(bench.published) == bench.streams[0].snapshot().published == 1
    assert "out of luck" in bench.cameras[0].reporter.last_error


def test_settings_that_change_hold_for_the_next_pair(bench):
    bench.inference.values = {**bench.values, "output.mask_encoding": "none"}
    bench.see()
    assert {len(entry.mask_data) for entry in bench.published[0].instances} == {0}
