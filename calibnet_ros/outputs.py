"""The output side of the node: publishers, and pictures only for those who watch."""

from __future__ import annotations

import math
import time

from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import Image

from calibnet_core.config import PipelineConfig
from calibnet_core.perception.mask_codec import MaskEncoding
from calibnet_core.pipeline import ModelInfo
from calibnet_core.structures import Instances, RgbdFrame, StageTimings
from calibnet_core.visualization import draw_instances
from calibnet_ros import msg as calibnet_msgs
from calibnet_ros import qos
from calibnet_ros.conversions import (
    array_to_image,
    duration_from_ns,
    instances_to_msgs,
    label_image_to_msg,
    model_info_to_msg,
)
from calibnet_ros.frame_input import FramePair
from calibnet_ros.reports import Reporter

# Clocks of machines in one robot differ by milliseconds, and nothing waits an hour.
_MOST_AHEAD_S = 1.0
_OLDEST_S = 3600.0


class Outputs:
    """Publishers of one camera. Made when configuring, used by the worker's thread."""

    def __init__(self, node: LifecycleNode, reporter: Reporter) -> None:
        self._node, self._reporter = node, reporter
        options = {"qos_overriding_options": qos.overridable()}
        make = node.create_lifecycle_publisher
        self._instances = make(
            calibnet_msgs.InstanceMaskArray, "~/instances", qos.own(qos.RESULT), **options
        )
        self._label_image = make(Image, "~/label_image", qos.own(qos.PICTURE), **options)
        self._overlay = make(Image, "~/overlay", qos.own(qos.PICTURE), **options)
        # No lifecycle publisher: it speaks already while the node is inactive.
        self._model_info = node.create_publisher(
            calibnet_msgs.ModelInfo, "~/model_info", qos.own(qos.LATCHED), **options
        )
        self._sequence = 0
        self._overlay_at = -math.inf

    def destroy(self) -> None:
        """Remove the publishers."""
        for publisher in (self._instances, self._label_image, self._overlay):
            self._node.destroy_lifecycle_publisher(publisher)
        self._node.destroy_publisher(self._model_info)

    def restart(self) -> None:
        """Begin counting frames anew."""
        self._sequence = 0
        self._overlay_at = -math.inf

    def publish_model_info(self, info: ModelInfo, config: PipelineConfig) -> None:
        """Say which model is at work, to those here and those who come later."""
        self._model_info.publish(model_info_to_msg(info, config))

    def publish(
        self,
        pair: FramePair,
        frame: RgbdFrame,
        instances: Instances,
        timings: StageTimings,
        *,
        model_id: str,
        encoding: MaskEncoding,
        overlay_rate: float,
        queue_s: float,
        skipped: int,
    ) -> None:
        """Publish the answer to one pair, stamped as its colour image."""
        header = pair.color.header
        self._sequence += 1
        height, width = frame.size
        answer = calibnet_msgs.InstanceMaskArray(
            header=header,
            height=height,
            width=width,
            sequence=self._sequence,
            status=calibnet_msgs.InstanceMaskArray.STATUS_OK,
            depth_offset=duration_from_ns(pair.offset_ns),
            skipped_since_last=skipped,
            queue_ms=queue_s * 1e3,
            preprocess_ms=float(timings.preprocess_ms),
            inference_ms=float(timings.inference_ms),
            postprocess_ms=float(timings.postprocess_ms),
            model_id=model_id,
            instances=instances_to_msgs(instances, encoding),
        )
        answer.age_ms = self._age_s(frame.stamp_ns) * 1e3
        self._instances.publish(answer)
        if self._label_image.get_subscription_count():
            self._label_image.publish(label_image_to_msg(instances, header))
        if self._overlay.get_subscription_count() and self._overlay_is_due(overlay_rate):
            picture = draw_instances(frame.rgb, instances)
            self._overlay.publish(array_to_image(picture, "rgb8", header))

    def _age_s(self, stamp_ns: int) -> float:
        age_s = (self._node.get_clock().now().nanoseconds - stamp_ns) / 1e9
        if age_s < -_MOST_AHEAD_S:
            self._reporter.clocks(-age_s)
        return age_s if -_MOST_AHEAD_S <= age_s <= _OLDEST_S else math.nan

    def _overlay_is_due(self, rate: float) -> bool:
        now = time.monotonic()
        # The tolerance keeps a camera at exactly this rate from losing every other picture.
        if rate > 0 and now - self._overlay_at < 0.9 / rate:
            return False
        self._overlay_at = now
        return True
