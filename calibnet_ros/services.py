"""The services and the action of one camera."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rclpy.action import ActionServer, CancelResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNode
from std_srvs.srv import Trigger

from calibnet_core.perception.perceiver import Perception
from calibnet_ros.action import Segment
from calibnet_ros.messages import instance_cloud_to_msg
from calibnet_ros.parameter_schema import Values
from calibnet_ros.requests import Code, FrameRequest, FrameRequests, Reply, request_from
from calibnet_ros.saving import save_frame
from calibnet_ros.srv import GetInstanceCloud, SegmentOnce
from calibnet_ros.stream import Camera

_NS_PER_S = 1_000_000_000


class CameraServices:
    """Answers the clients of one camera for as long as the node lives, whatever its state.

    Args:
        node: serves.
        name: of the camera, empty for one without a name.
        read_values: returns the parameters in force.
        read_model_id: returns the id of the model at work.

    Attributes:
        camera: from configure to cleanup, else None.
        requests: of clients that wait for a frame.
    """

    def __init__(
        self,
        node: LifecycleNode,
        name: str,
        *,
        read_values: Callable[[], Values],
        read_model_id: Callable[[], str],
    ) -> None:
        self.camera: Camera | None = None
        self.requests = FrameRequests(node, self._describe_wait)
        self._node = node
        self._read_values, self._read_model_id = read_values, read_model_id
        self._goals: dict[bytes, FrameRequest] = {}
        # A request that waits for a frame must not hold up the images it waits for.
        group = ReentrantCallbackGroup()
        prefix = f"~/{name}/" if name else "~/"
        self._services = [
            node.create_service(kind, prefix + service, callback, callback_group=group)
            for kind, service, callback in (
                (SegmentOnce, "segment_once", self._segment_once),
                (GetInstanceCloud, "get_instance_cloud", self._get_instance_cloud),
                (Trigger, "reset_tracks", self._reset_tracks),
                (Trigger, "save_frame", self._save_frame),
            )
        ]
        self._action = ActionServer(
            node,
            Segment,
            prefix + "segment",
            self._segment,
            cancel_callback=self._cancel,
            callback_group=group,
        )

    def destroy(self) -> None:
        """Withdraw the services. Call it while no request waits."""
        for service in self._services:
            self._node.destroy_service(service)
        self._action.destroy()
        self.requests.destroy()

    # --- one frame ------------------------------------------------------------------------------

    async def _segment_once(self, request: Any, response: Any) -> Any:
        try:
            frame_request = request_from(request)
        except ValueError as error:
            return Reply(Code.BAD_REQUEST, str(error)).fill(response)
        return (await self._reply_to(frame_request)).fill(response)

    async def _segment(self, goal: Any) -> Any:
        result = Segment.Result()
        try:
            request = request_from(goal.request)
        except ValueError as error:
            goal.abort()
            return Reply(Code.BAD_REQUEST, str(error)).fill(result)

        def on_stage(stage: int) -> None:
            if goal.is_active:
                goal.publish_feedback(Segment.Feedback(stage=stage))

        request.on_stage = on_stage
        on_stage(Segment.Feedback.WAITING)
        key = bytes(goal.goal_id.uuid)
        self._goals[key] = request
        if goal.is_cancel_requested:  # before it could be found here
            self._cancel(goal)
        try:
            reply = await self._reply_to(request)
        finally:
            del self._goals[key]
        if reply.code == Code.OK:
            goal.succeed()
        elif reply.code == Code.CANCELLED and goal.is_cancel_requested:
            goal.canceled()
        else:
            goal.abort()
        return reply.fill(result)

    def _cancel(self, goal: Any) -> CancelResponse:
        if request := self._goals.get(bytes(goal.goal_id.uuid)):
            self.requests.answer(request, Reply(Code.CANCELLED, "the goal was cancelled"))
        return CancelResponse.ACCEPT

    async def _reply_to(self, request: FrameRequest) -> Reply:
        if self.camera is None or self.camera.stream is None:
            return Reply(Code.NOT_ACTIVE, "the node is not active; configure and activate it")
        return await self.requests.wait(request)

    def _describe_wait(self) -> str:
        return "" if self.camera is None else self.camera.what_is_missing()

    # --- what was answered ----------------------------------------------------------------------

    def _get_instance_cloud(self, request: Any, response: Any) -> Any:
        stamp_ns = request.stamp.sec * _NS_PER_S + request.stamp.nanosec
        kept = [] if self.camera is None else self.camera.remembered()
        matching = [entry for entry in kept if stamp_ns in (0, entry.frame.stamp_ns)]
        if not matching:
            stamps = ", ".join(str(entry.frame.stamp_ns) for entry in kept) or "none"
            message = f"no frame of stamp {stamp_ns} ns is kept; those kept are: {stamps}"
            return Reply(GetInstanceCloud.Response.NO_SUCH_FRAME, message).fill(response)
        for perception in matching:
            index = _find(perception, int(request.instance_id), int(request.track_id))
            if index is not None:
                break
        else:
            tracks = [track.track_id for track in matching[0].tracks]
            message = (
                f"no instance {request.instance_id} or track {request.track_id} there; the frame "
                f"holds instances 1 to {len(tracks)} with tracks {tracks}"
            )
            return Reply(GetInstanceCloud.Response.NO_SUCH_INSTANCE, message).fill(response)
        cloud = instance_cloud_to_msg(perception, index)
        if cloud is None or cloud.width == 0:
            status = perception.geometry[index].status.name.lower()
            message = f"the instance has no points ({status}); see geometry_status of the result"
            return Reply(GetInstanceCloud.Response.NO_GEOMETRY, message).fill(response)
        return Reply(GetInstanceCloud.Response.OK, parts={"cloud": cloud}).fill(response)

    def _reset_tracks(self, request: Any, response: Any) -> Any:
        response.success = self.camera is not None
        if self.camera is None:
            response.message = "the node is not configured, so there are no tracks"
        else:
            self.camera.perceiver.reset_tracks()
            response.message = "track ids begin at 1 again with the next frame"
        return response

    async def _save_frame(self, request: Any, response: Any) -> Any:
        values = self._read_values()
        folder = str(values["output.save_folder"])
        kept = [] if self.camera is None else self.camera.remembered()
        if not folder:
            response.message = "saving is off; set output.save_folder and configure the node again"
        elif not kept:
            response.message = "no frame has been answered yet, or output.history is 0"
        else:
            model_id = self._read_model_id()
            try:
                path = await self.requests.aside(
                    lambda: save_frame(Path(folder), kept[0], model_id=model_id, values=values)
                )
            except Exception as error:  # a full disk must not end the node
                response.message = f"could not save to {folder}: {error}"
            else:
                response.success, response.message = True, str(path)
        return response


def _find(perception: Perception, instance_id: int, track_id: int) -> int | None:
    """Place of an instance by its id, or by its track where the id is 0."""
    if instance_id:
        return instance_id - 1 if instance_id in perception.instance_ids else None
    tracks = [track.track_id for track in perception.tracks]
    return tracks.index(track_id) if track_id and track_id in tracks else None
