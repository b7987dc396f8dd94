"""Events of publishers and subscriptions, kept out of the way of images."""

from __future__ import annotations

import time
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node

from calibnet_ros import qos

_WINDOW_S = 0.1


class GraphEventGroup(ReentrantCallbackGroup):
    """Lets the executor look at events now and then, instead of before every message.

    Each publisher and subscription brings two events, such as a partner with another quality of
    service. They are rare and can wait a second, but rclpy's executor prepares every one of them
    anew each time it waits: they were more than half of what it waits for, and of the time it takes
    from the worker. What happens meanwhile is kept by the middleware.
    """

    def __init__(self) -> None:
        super().__init__()
        self._until = 0.0

    def take_over(self, node: Node) -> None:
        """Become the group of all events of a node, as far as it has them already."""
        for waitable in node.waitables:
            if isinstance(waitable, qos.EventHandler):
                waitable.callback_group = self

    def look(self) -> None:
        """Let the executor look at once, and for a moment."""
        self._until = time.monotonic() + _WINDOW_S

    def can_execute(self, entity: Any) -> bool:
        """Whether the executor may wait for an event now, and handle it."""
        return time.monotonic() < self._until
