"""Inputs from which nothing comes, and what is known of their publishers."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rclpy.node import Node

from calibnet_core.perception.accounting import LedgerSnapshot
from calibnet_ros.frame_input import COLOR, DEPTH, INFO


class SilenceWatch:
    """Notices inputs from which nothing comes, and says what is known of their publishers.

    Args:
        node: knows the graph.
        topics: resolved names by role.
        prefix: of the names before they are remapped, such as `front/`.
    """

    def __init__(self, node: Node, topics: Mapping[str, str], *, prefix: str = "") -> None:
        self._node, self._topics, self._prefix = node, topics, prefix
        # How many messages there were by role, and the monotonic time when that was new.
        self._heard = dict.fromkeys((COLOR, DEPTH, INFO), (0, time.monotonic()))

    def check(self, counts: LedgerSnapshot, timeout_s: float) -> dict[str, str]:
        """A sentence for each input that has been silent for longer than `timeout_s`, by role."""
        now, silent = time.monotonic(), {}
        for role, count in (
            (COLOR, counts.received_color),
            (DEPTH, counts.received_depth),
            (INFO, counts.received_info),
        ):
            known, since = self._heard[role]
            if count != known:
                self._heard[role] = (count, now)
            elif now - since > timeout_s:
                silent[role] = self._describe(role, now - since)
        return silent

    def _describe(self, role: str, silence_s: float) -> str:
        topic = self._topics[role]
        publishers = self._node.get_publishers_info_by_topic(topic)
        name = f"{self._prefix}{role}"
        known = f"nobody publishes it; start the camera driver, or remap '{name}'"
        if publishers:
            described = ", ".join(
                f"{entry.node_name} ({entry.topic_type}, {entry.qos_profile.reliability.name}, "
                f"{entry.qos_profile.durability.name})"
                for entry in publishers
            )
            noun = "publisher" if len(publishers) == 1 else "publishers"
            known = f"it has {len(publishers)} {noun}: {described}"
        return f"nothing on {topic} for {silence_s:.0f} s: {known}"
