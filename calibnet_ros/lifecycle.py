"""A lifecycle node that survives what its clients ask of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeAlias

from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

Transition: TypeAlias = Callable[[LifecycleState], TransitionCallbackReturn]


class SturdyLifecycleNode(LifecycleNode):
    """Refuses a transition that is not allowed in the present state, and lives on.

    Up to Jazzy such a request raises in the executor and ends the process (ros2/rclpy#1209). What a
    transition raises ends in the error state as ever, but rclpy keeps it to itself: it is logged.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for state_id, transition in self._callbacks.items():
            self._callbacks[state_id] = self._telling(transition)
        change_state = self._service_change_state.callback

        def refuse_what_is_not_allowed(request: Any, response: Any) -> Any:
            try:
                return change_state(request, response)
            except rclpy_implementation.RCLError as error:
                self.get_logger().warning(f"refused a transition: {error}")
                response.success = False
                return response

        self._service_change_state.callback = refuse_what_is_not_allowed

    def _telling(self, transition: Transition) -> Transition:
        @wraps(transition)
        def told(state: LifecycleState) -> TransitionCallbackReturn:
            try:
                return transition(state)
            except Exception as error:
                if self.context.ok():  # else it was interrupted, which is no fault
                    text = f"{transition.__name__}: {type(error).__name__}: {error}"
                    self.get_logger().error(text)
                raise

        return told

    def call_after_parameters_are_set(
        self, callback: Callable[[Sequence[Parameter]], None]
    ) -> None:
        """Have `callback` called with the parameters that were changed, once they are in force."""
        if hasattr(self, "add_post_set_parameters_callback"):
            self.add_post_set_parameters_callback(callback)
            return

        def soon(parameters: Sequence[Parameter]) -> SetParametersResult:
            # Humble tells only before the values are in force.
            def once() -> None:
                self.destroy_timer(timer)
                callback(parameters)

            timer = self.create_timer(0.0, once, clock=Clock(clock_type=ClockType.STEADY_TIME))
            return SetParametersResult(successful=True)

        self.add_on_set_parameters_callback(soon)
