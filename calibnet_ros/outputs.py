"""The output side of one camera: publishers, and large outputs only for those who listen."""

from __future__ import annotations

import math
import time
from functools import partial
from typing import Any

from rclpy.lifecycle import LifecycleNode

from calibnet_core.config import PipelineConfig
from calibnet_core.perception.perceiver import Perception
from calibnet_core.structures import ModelInfo
from calibnet_ros import msg as calibnet_msgs
from calibnet_ros import qos
from calibnet_ros.messages import (
    LATCHED_OUTPUTS,
    OUTPUTS,
    FrameAccount,
    OutputOptions,
    instances_to_msg,
)
from calibnet_ros.reports import Reporter

# Clocks of machines in one robot differ by milliseconds, and nothing waits an hour.
_MOST_AHEAD_S = 1.0
_OLDEST_S = 3600.0


class Outputs:
    """Publishers of one camera. Made when configuring, used by the worker's thread.

    Args:
        node: publishes.
        reporter: told of clocks that disagree and of subscribers that cannot be served.
        prefix: of the names below `~/`, such as `front/`.
        is_transformed: whether results in another frame are offered, too.
    """

    def __init__(
        self,
        node: LifecycleNode,
        reporter: Reporter,
        *,
        prefix: str = "",
        is_transformed: bool = False,
    ) -> None:
        self._node, self._reporter = node, reporter
        self._instances = self._publisher(
            calibnet_msgs.InstanceMaskArray, f"~/{prefix}instances", qos.RESULT
        )
        self._transformed = (
            self._publisher(
                calibnet_msgs.InstanceMaskArray, f"~/{prefix}transformed/instances", qos.RESULT
            )
            if is_transformed
            else None
        )
        self._others = [
            (output, self._publisher(output.msg_type, f"~/{prefix}{output.name}", output.profile))
            for output in OUTPUTS
        ]
        # No lifecycle publishers: they speak already while the node is inactive.
        self._latched = [
            (
                output,
                node.create_publisher(
                    output.msg_type,
                    f"~/{prefix}{output.name}",
                    qos.own(output.profile),
                    qos_overriding_options=qos.overridable(),
                ),
            )
            for output in LATCHED_OUTPUTS
        ]
        self._throttled_at = -math.inf

    def destroy(self) -> None:
        """Remove the publishers."""
        publishers = [self._instances, *(publisher for _, publisher in self._others)]
        if self._transformed is not None:
            publishers.append(self._transformed)
        for publisher in publishers:
            self._node.destroy_lifecycle_publisher(publisher)
        for _, publisher in self._latched:
            self._node.destroy_publisher(publisher)

    def publish_latched(self, info: ModelInfo, config: PipelineConfig) -> None:
        """Say which model is at work, to those here and those who come later."""
        for output, publisher in self._latched:
            publisher.publish(output.make(info, config))

    def restart(self) -> None:
        """Forget when the last overlay was drawn."""
        self._throttled_at = -math.inf

    def result(
        self, perception: Perception, account: FrameAccount, options: OutputOptions
    ) -> calibnet_msgs.InstanceMaskArray:
        """The answer as a message, with its age as of now."""
        result = instances_to_msg(perception, account, options)
        result.age_ms = self._age_s(perception.frame.stamp_ns) * 1e3
        return result

    def publish(
        self,
        perception: Perception,
        account: FrameAccount,
        options: OutputOptions,
        *,
        overlay_rate: float | None,
    ) -> calibnet_msgs.InstanceMaskArray:
        """Publish the answer to one pair, stamped as its colour image; returns the result.

        Args:
            perception: the answer.
            account: what is known beside it; its age is filled in here.
            options: how outputs are made.
            overlay_rate: most overlays a second; 0 draws every one, None draws none.
        """
        result = self.result(perception, account, options)
        self._instances.publish(result)
        listened = [
            (output, publisher)
            for output, publisher in self._others
            if publisher.get_subscription_count()
        ]
        draws = any(output.is_throttled for output, _ in listened) and self._is_due(overlay_rate)
        for output, publisher in listened:
            if output.is_throttled and not draws:
                continue
            try:
                if (message := output.make(perception, options)) is not None:
                    publisher.publish(message)
            except Exception as error:  # one picture must not cost the others, nor the count
                self._reporter.withheld(f"~/{output.name}", f"{type(error).__name__}: {error}")
        return result

    def has_listeners_in_target(self) -> bool:
        """Whether anybody wants results in another frame."""
        return self._transformed is not None and bool(self._transformed.get_subscription_count())

    def publish_transformed(
        self, perception: Perception, account: FrameAccount, options: OutputOptions
    ) -> None:
        """Publish an answer with its geometry in another frame; ask for listeners first."""
        if self._transformed is not None:
            self._transformed.publish(self.result(perception, account, options))

    def _publisher(self, msg_type: type, topic: str, profile: Any) -> Any:
        return self._node.create_lifecycle_publisher(
            msg_type,
            topic,
            qos.own(profile),
            qos_overriding_options=qos.overridable(),
            event_callbacks=qos.PublisherEventCallbacks(
                incompatible_qos=partial(
                    self._on_incompatible_qos, self._node.resolve_topic_name(topic)
                )
            ),
        )

    def _on_incompatible_qos(self, topic: str, info: Any) -> None:
        policy = qos.policy_name(info.last_policy_kind)
        self._reporter.incompatible(
            f"a subscriber of {topic} gets nothing: its {policy} asks for more than is offered; "
            f"ask for less there, or set qos_overrides.{topic}.publisher.{policy}"
        )

    def _age_s(self, stamp_ns: int) -> float:
        age_s = (self._node.get_clock().now().nanoseconds - stamp_ns) / 1e9
        if age_s < -_MOST_AHEAD_S:
            self._reporter.clocks(-age_s)
        return age_s if -_MOST_AHEAD_S <= age_s <= _OLDEST_S else math.nan

    def _is_due(self, rate: float | None) -> bool:
        if rate is None:
            return False
        now = time.monotonic()
        # The tolerance keeps a camera at exactly this rate from losing every other picture.
        if rate > 0 and now - self._throttled_at < 0.9 / rate:
            return False
        self._throttled_at = now
        return True
