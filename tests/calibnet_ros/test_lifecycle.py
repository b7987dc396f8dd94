"""States and parameters, asked of nodes in this process."""

from __future__ import annotations

import itertools
import time

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter

from calibnet_ros import perception_node
from calibnet_ros.lifecycle import SturdyLifecycleNode
from calibnet_ros.parameters import pipeline_config
from calibnet_ros.perception_node import PerceptionNode
from calibnet_ros.stream import Stream
from tests.support.stub_predictor import StubPredictor

pytestmark = pytest.mark.ros

SUCCESS, FAILURE, ERROR = (
    TransitionCallbackReturn.SUCCESS,
    TransitionCallbackReturn.FAILURE,
    TransitionCallbackReturn.ERROR,
)
numbers = itertools.count()


class Careful(SturdyLifecycleNode):
    """Keeps what it would log."""

    def __init__(self, name, **options):
        self.lines = []
        super().__init__(name, **options)

    def get_logger(self):
        return self

    def error(self, text):
        self.lines.append(("error", text))

    def warning(self, text):
        self.lines.append(("warning", text))


class Clumsy(Careful):
    def on_activate(self, state):
        raise ZeroDivisionError("nobody knows")


class OfHumble(Careful):
    """Without the callback that rclpy got after Humble."""

    @property
    def add_post_set_parameters_callback(self):
        raise AttributeError


@pytest.fixture
def make(context):
    """Makes a node and its executor; `cls` gets a name and the other options."""
    made = []

    def make(cls, *args, **options):
        node = cls(*args, context=context, **options)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        made.append((node, executor))
        return node, executor

    yield make
    for node, executor in made:
        executor.shutdown()
        if isinstance(node, PerceptionNode):
            node.stop()
        else:
            node.destroy_node()


def make_perception_node(make, **values):
    given = {"autostart": False, "model.warmup_runs": 0} | {
        name.replace("__", "."): value for name, value in values.items()
    }
    return make(
        PerceptionNode,
        lambda values: StubPredictor(pipeline_config(values)),
        namespace=f"robot{next(numbers)}",
        parameter_overrides=[Parameter(name, value=value) for name, value in given.items()],
    )


def change_state(node, transition_id):
    request = ChangeState.Request(transition=Transition(id=transition_id))
    answer = node._service_change_state.callback(request, ChangeState.Response())
    return answer.success


# --- any node -------------------------------------------------------------------------------------


def test_a_transition_that_is_not_allowed_is_refused_and_the_next_goes_well(make):
    node, _ = make(Careful, "careful")
    assert not change_state(node, Transition.TRANSITION_ACTIVATE)
    assert not change_state(node, 250)
    assert [level for level, _ in node.lines] == ["warning", "warning"]
    assert change_state(node, Transition.TRANSITION_CONFIGURE)
    assert change_state(node, Transition.TRANSITION_ACTIVATE)


def test_what_a_transition_raises_is_logged_and_ends_in_the_error_state(make):
    node, _ = make(Clumsy, "clumsy")
    assert node.trigger_configure() == SUCCESS
    assert node.trigger_activate() == ERROR
    assert node.lines == [("error", "on_activate: ZeroDivisionError: nobody knows")]


@pytest.mark.parametrize("kind", [Careful, OfHumble])
def test_changed_parameters_are_told_once_they_are_in_force(make, kind):
    node, executor = make(kind, "told")
    node.declare_parameter("speed", 1)
    told = []
    node.call_after_parameters_are_set(
        lambda parameters: told.append(
            (parameters[0].name, node.get_parameter(parameters[0].name).value)
        )
    )
    for speed in (2, 3):
        node.set_parameters([Parameter("speed", value=speed)])
        deadline = time.monotonic() + 5
        while len(told) < speed - 1 and time.monotonic() < deadline:
            executor.spin_once(timeout_sec=0.01)
    assert told == [("speed", 2), ("speed", 3)]
    assert len(list(node.timers)) == 0


# --- the perception node --------------------------------------------------------------------------


def input_topics(node):
    return sorted(
        subscription.topic_name.removeprefix(node.get_namespace() + "/")
        for subscription in node.subscriptions
        if "camera" in subscription.topic_name or "image" in subscription.topic_name
    )


def num_entities(node):
    return tuple(
        len(list(entities))
        for entities in (
            node.publishers,
            node.subscriptions,
            node.services,
            node.timers,
            node.guards,
            node.waitables,
        )
    )


@pytest.mark.parametrize("cameras", [["left", "left"], ["no blanks"]])
def test_bad_camera_names_fail_the_configuration_and_never_the_construction(make, cameras):
    node, _ = make_perception_node(make, cameras=cameras)
    assert node.trigger_configure() == FAILURE
    assert node.set_parameters([Parameter("cameras", value=["left"])])[0].successful
    assert node.trigger_configure() == SUCCESS


def test_configuring_and_cleaning_up_gives_everything_back_with_other_cameras_too(make):
    node, _ = make_perception_node(make)
    before = num_entities(node)
    for names in (["left", "right"], ["left"], [""]):
        node.set_parameters([Parameter("cameras", value=names)])
        for walk in ("configure", "activate", "deactivate", "cleanup"):
            assert getattr(node, f"trigger_{walk}")() == SUCCESS
    assert num_entities(node) == before


def test_an_activation_that_fails_leaves_no_subscription_behind(make, monkeypatch):
    node, _ = make_perception_node(make, cameras=["left", "right"])
    assert node.trigger_configure() == SUCCESS
    before = num_entities(node)
    real_open = Stream.open

    def broken(*args, **options):
        if input_topics(node):
            raise RuntimeError("no more sockets")
        return real_open(*args, **options)

    monkeypatch.setattr(perception_node.Stream, "open", broken)
    assert node.trigger_activate() == FAILURE
    assert input_topics(node) == []
    assert num_entities(node) == before
    monkeypatch.undo()
    assert node.trigger_activate() == SUCCESS
    assert len(input_topics(node)) == 6


def test_the_heartbeat_lasts_as_long_as_the_activation(make, monkeypatch):
    beats = []
    monkeypatch.setattr(perception_node.Heartbeat, "start", lambda self: beats.append("start"))
    monkeypatch.setattr(perception_node.Heartbeat, "stop", lambda self: beats.append("stop"))
    node, _ = make_perception_node(make)
    node.trigger_configure()
    assert beats == []
    node.trigger_activate()
    assert beats == ["start"]
    node.trigger_deactivate()
    assert beats == ["start", "stop"]
    silent, _ = make_perception_node(make, bond=False)
    silent.trigger_configure()
    silent.trigger_activate()
    silent.trigger_deactivate()
    assert beats == ["start", "stop", "stop"]
