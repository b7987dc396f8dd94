"""Qualities of service by role, and leave to override them by parameter."""

from __future__ import annotations

import copy

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions


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
    return QoSOverridingOptions.with_default_policies()
