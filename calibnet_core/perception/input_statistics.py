"""What the stamps and the depths of two image streams tell about their sources."""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from calibnet_core.perception.pairing import (
    BackwardJump,
    DroppedColor,
    DroppedDepth,
    Event,
    Pair,
    PairerConfig,
    StampPairer,
    StreamName,
)

_NS_PER_S = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class StampSummary:
    """The stamps of one stream.

    Attributes:
        count: messages.
        num_zero: messages without a stamp; the rest is about the others.
        num_repeated: messages with the stamp of the one before.
        num_backward: messages older than the one before.
        period_s: median distance of two stamps in seconds, NaN where there is none.
        jitter_s: 95th percentile of a distance's deviation from that median, NaN likewise.
        longest_gap_s: largest distance of two stamps, NaN likewise.
    """

    count: int
    num_zero: int
    num_repeated: int
    num_backward: int
    period_s: float
    jitter_s: float
    longest_gap_s: float

    @property
    def rate_hz(self) -> float:
        """Messages a second by their stamps; 0 where there is no period."""
        return 1.0 / self.period_s if self.period_s > 0 else 0.0


@dataclass(frozen=True, kw_only=True)
class PairingTrial:
    """What a pairer with the node's settings made of two streams.

    Attributes:
        num_pairs: colour images that found their depth image.
        unpaired_color, unpaired_depth: messages without a partner by reason; those that still
            waited when the streams were cut off do not count.
        num_backward_jumps: how often time restarted.
        tolerance_s: largest distance of two stamps that would have been paired at the end.
        offset_median_s: depth stamp minus colour stamp, median over the pairs; NaN without pairs.
        offset_max_s: largest distance of the stamps within a pair; NaN without pairs.
        nearest_s: median distance from a colour stamp to the nearest depth stamp, however far; NaN
            where a stream is empty.
    """

    num_pairs: int
    unpaired_color: dict[str, int]
    unpaired_depth: dict[str, int]
    num_backward_jumps: int
    tolerance_s: float
    offset_median_s: float
    offset_max_s: float
    nearest_s: float


@dataclass(frozen=True, kw_only=True)
class DepthSummary:
    """What some depth images measured.

    Attributes:
        num_images: how many were looked at.
        valid_share: share of pixels with a measurement, in [0, 1].
        median_m: median of the measurements in metres; NaN where there are none.
        near_m, far_m: 5th and 95th percentile likewise.
    """

    num_images: int
    valid_share: float
    median_m: float
    near_m: float
    far_m: float


def summarise_stamps(stamps_ns: Sequence[int]) -> StampSummary:
    """Judge the stamps of one stream, in nanoseconds and in order of arrival; 0 means none."""
    given = [stamp for stamp in stamps_ns if stamp]
    steps = [later - earlier for earlier, later in pairwise(given)]
    rising = [step / _NS_PER_S for step in steps if step > 0]
    period_s = statistics.median(rising) if rising else math.nan
    deviations = sorted(abs(step - period_s) for step in rising)
    return StampSummary(
        count=len(stamps_ns),
        num_zero=len(stamps_ns) - len(given),
        num_repeated=steps.count(0),
        num_backward=sum(step < 0 for step in steps),
        period_s=period_s,
        jitter_s=deviations[int(0.95 * (len(deviations) - 1))] if deviations else math.nan,
        longest_gap_s=max(rising, default=math.nan),
    )


def try_pairing(
    arrivals: Iterable[tuple[StreamName, int]], config: PairerConfig | None = None
) -> PairingTrial:
    """Run the node's pairer over the stamps of two streams.

    Args:
        arrivals: stream and stamp in nanoseconds of each message, in order of arrival; those
            without a stamp are left out, as the node does.
        config: of the pairer; None takes the node's defaults.
    """
    pairer: StampPairer[None, None] = StampPairer(config)
    offsets_ns: list[int] = []
    unpaired_color: Counter[str] = Counter()
    unpaired_depth: Counter[str] = Counter()
    num_jumps = 0
    stamps: dict[StreamName, list[int]] = {"color": [], "depth": []}
    for stream, stamp_ns in arrivals:
        if not stamp_ns:
            continue
        stamps[stream].append(stamp_ns)
        add = pairer.add_color if stream == "color" else pairer.add_depth
        events: list[Event[None, None]] = add(stamp_ns, None)
        for event in events:
            if isinstance(event, Pair):
                offsets_ns.append(event.offset_ns)
            elif isinstance(event, DroppedColor):
                unpaired_color[event.reason.value] += 1
            elif isinstance(event, DroppedDepth):
                unpaired_depth[event.reason.value] += 1
            else:
                assert isinstance(event, BackwardJump)
                num_jumps += 1
    return PairingTrial(
        num_pairs=len(offsets_ns),
        unpaired_color=dict(unpaired_color),
        unpaired_depth=dict(unpaired_depth),
        num_backward_jumps=num_jumps,
        tolerance_s=pairer.tolerance_s,
        offset_median_s=statistics.median(offsets_ns) / _NS_PER_S if offsets_ns else math.nan,
        offset_max_s=max(map(abs, offsets_ns)) / _NS_PER_S if offsets_ns else math.nan,
        nearest_s=_median_distance_s(stamps["color"], sorted(stamps["depth"])),
    )


def summarise_depth(depths_m: Sequence[NDArray[np.float32]]) -> DepthSummary:
    """Judge (H, W) depth images in metres, NaN where nothing was measured."""
    measured = [depth[np.isfinite(depth)] for depth in depths_m]
    values = np.concatenate(measured) if measured else np.empty(0, np.float32)
    num_pixels = sum(depth.size for depth in depths_m)
    near, median, far = np.percentile(values, (5, 50, 95)) if values.size else (math.nan,) * 3
    return DepthSummary(
        num_images=len(depths_m),
        valid_share=values.size / num_pixels if num_pixels else 0.0,
        median_m=float(median),
        near_m=float(near),
        far_m=float(far),
    )


def _median_distance_s(stamps_ns: Sequence[int], others_ns: Sequence[int]) -> float:
    """Median distance of each stamp to the nearest of `others_ns`, which are sorted."""
    if not stamps_ns or not others_ns:
        return math.nan
    distances = []
    for stamp_ns in stamps_ns:
        place = bisect_left(others_ns, stamp_ns)
        around = others_ns[max(0, place - 1) : place + 1]
        distances.append(min(abs(other - stamp_ns) for other in around))
    return statistics.median(distances) / _NS_PER_S
