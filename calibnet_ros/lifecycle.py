"""A lifecycle node that survives what its clients ask of it."""

from __future__ import annotations

from typing import Any

from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode


class SturdyLifecycleNode(LifecycleNode):
    """Refuses a transition that is not allowed in the present state, and lives on.

    Up to Jazzy such a request raises in the executor and ends the process (ros2/rclpy#1209).
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        change_state = self._service_change_state.callback

        def refuse_what_is_not_allowed(request: Any, response: Any) -> Any:
            try:
                return change_state(request, response)
            except rclpy_implementation.RCLError as error:
                self.get_logger().warning(f"refused a transition: {error}")
                response.success = False
                return response

        self._service_change_state.callback = refuse_what_is_not_allowed
