"""Qualities of service by role, and leave to override them by parameter."""

from __future__ import annotations

import copy

from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
    qos_policy_name_from_kind,
)
from rclpy.qos_overriding_options import QoSOverridingOptions

try:
    from rclpy.event_handler import (
        EventHandler,
        PublisherEventCallbacks,
        SubscriptionEventCallbacks,
    )
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks
    from rclpy.qos_event import QoSEventHandler as EventHandler

__all__ = [
    "INPUT",
    "LATCHED",
    "PICTURE",
    "RESULT",
    "EventHandler",
    "PublisherEventCallbacks",
    "SubscriptionEventCallbacks",
    "overridable",
    "own",
    "policy_name",
]


def _profile(depth: int, *, reliable: bool, latched: bool = False) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


# Best effort hears reliable and best-effort cameras; the other way round a subscription stays
# silent. Five messages cover the jitter between two streams.
INPUT = _profile(5, reliable=False)
# Small, and planners ask for reliable by default.
RESULT = _profile(5, reliable=True)
# Large: a late subscriber wants the newest and nothing else.
PICTURE = _profile(1, reliable=False)
# Sent once; whoever comes later must still get it.
LATCHED = _profile(1, reliable=True, latched=True)


def own(profile: QoSProfile) -> QoSProfile:
    """A copy for one endpoint: rclpy writes a topic's overrides into the profile it is given."""
    return copy.copy(profile)


def overridable() -> QoSOverridingOptions:
    """Let `qos_overrides.<topic>.<publisher or subscription>.<policy>` parameters decide."""
    kinds = QoSPolicyKind
    # One more than by default: a subscriber that asks for the last message of old gets nothing
    # from a volatile publisher, and the advice on that names the parameter.
    policies = kinds.HISTORY, kinds.DEPTH, kinds.RELIABILITY, kinds.DURABILITY
    return QoSOverridingOptions(policy_kinds=policies)


def policy_name(kind: int) -> str:
    """The policy that an event names, as parameters spell it: `reliability`, `durability` ..."""
    return str(qos_policy_name_from_kind(kind)).removesuffix("_QOS_POLICY").lower()
