"""What was seen, before anybody judges it: plain values that tests can write down."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from calibnet_core.perception.input_statistics import DepthSummary
from calibnet_core.perception.pairing import StreamName
from calibnet_core.perception.registration import EdgeAgreement

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"

Role = Literal["color", "depth", "info", "depth_info"]

ROLE_NAMES: dict[Role, str] = {
    "color": "colour",
    "depth": "depth",
    "info": "camera info",
    "depth_info": "depth camera info",
}


@dataclass(frozen=True, kw_only=True)
class EndpointFacts:
    """A publisher or subscriber of a topic.

    Attributes:
        node: fully qualified name of its node.
        msg_type: such as `sensor_msgs/msg/Image`.
        reliability, durability: policies as ROS names them, in lower case.
        conflict: for a publisher, why this package's input cannot hear it; for a subscriber, why it
            hears a publisher of the topic not at all; empty where all is well.
    """

    node: str
    msg_type: str
    reliability: str = ""
    durability: str = ""
    conflict: str = ""


@dataclass(frozen=True, kw_only=True)
class TopicFacts:
    """A topic of the graph or of a recording.

    Attributes:
        name: fully qualified.
        msg_types: usually one.
        publishers: empty for a recording.
        subscribers: other than the doctor; empty for a recording.
        num_messages: recorded on it; None for a live graph.
    """

    name: str
    msg_types: tuple[str, ...]
    publishers: tuple[EndpointFacts, ...] = ()
    subscribers: tuple[EndpointFacts, ...] = ()
    num_messages: int | None = None

    @property
    def has_source(self) -> bool:
        """Whether messages can come from it."""
        return bool(self.num_messages) or bool(self.publishers)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asked to look at; empty strings leave the choice to the doctor."""

    camera: str = ""
    camera_namespace: str = ""
    color_topic: str = ""
    depth_topic: str = ""
    info_topic: str = ""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The topics that were looked at.

    Attributes:
        color, depth: image topics without the ending of a transport; empty where none was found.
        info, depth_info: CameraInfo topics, likewise.
        camera, camera_namespace: preset that names these topics; empty where none does.
        color_transport, depth_transport: which messages to read, as the node's parameters say it.
        rivals: topics that could have been meant as well.
    """

    color: str = ""
    depth: str = ""
    info: str = ""
    depth_info: str = ""
    camera: str = ""
    camera_namespace: str = ""
    color_transport: str = "raw"
    depth_transport: str = "raw"
    rivals: tuple[str, ...] = ()

    def topic(self, role: Role) -> str:
        """The topic to subscribe to for a role; empty where there is none."""
        base = str(getattr(self, role))
        transport = self.transport(role)
        return f"{base}/{transport}" if base and transport != "raw" else base

    def transport(self, role: Role) -> str:
        """`raw`, `compressed` or `compressedDepth`."""
        return str(getattr(self, f"{role}_transport", "raw"))


@dataclass(frozen=True)
class Form:
    """What the images of a stream look like.

    Attributes:
        encoding: ROS name, or the format of a compressed image.
        size: (height, width) in pixels; None where only decoding would tell.
        frame_id: of the header.
    """

    encoding: str
    size: tuple[int, int] | None
    frame_id: str


@dataclass(kw_only=True)
class StreamFacts:
    """What came on one topic.

    Attributes:
        stamps_ns: of the messages' headers in order of arrival; 0 for none.
        ages_s: arrival minus stamp, of those with a stamp; empty for a recording.
        forms: how many images had which form.
        num_damaged: messages whose bytes are none.
        refusal: why the images cannot be read, in the words of the node; empty where they can.
        image_bytes: size of the largest image.
    """

    stamps_ns: list[int] = field(default_factory=list)
    ages_s: list[float] = field(default_factory=list)
    forms: dict[Form, int] = field(default_factory=dict)
    num_damaged: int = 0
    refusal: str = ""
    image_bytes: int = 0

    @property
    def form(self) -> Form | None:
        """The most frequent form."""
        return max(self.forms, key=lambda form: self.forms[form], default=None)

    @property
    def size(self) -> tuple[int, int] | None:
        """Size of the most frequent form."""
        return None if self.form is None else self.form.size


@dataclass(frozen=True, kw_only=True)
class InfoFacts:
    """The newest CameraInfo of a topic, as plain numbers.

    Attributes:
        size: (height, width) of the image that it describes, binning and region applied.
        frame_id: of the header.
        pinhole: fx, fy, cx, cy in pixels, of P where the image is rectified, else of K.
        d: distortion coefficients.
        distortion_model: their model.
    """

    size: tuple[int, int]
    frame_id: str
    pinhole: tuple[float, float, float, float]
    d: tuple[float, ...]
    distortion_model: str

    @classmethod
    def from_message(cls, msg: Any) -> InfoFacts:
        """Read a CameraInfo of any implementation."""
        roi = msg.roi
        height = (int(roi.height) or int(msg.height)) // max(1, int(msg.binning_y))
        width = (int(roi.width) or int(msg.width)) // max(1, int(msg.binning_x))
        d = tuple(float(value) for value in msg.d)
        is_rectified = not any(d) and float(msg.p[0]) > 0
        matrix, places = (msg.p, (0, 5, 2, 6)) if is_rectified else (msg.k, (0, 4, 2, 5))
        fx, fy, cx, cy = (float(matrix[place]) for place in places)
        return cls(
            size=(height, width),
            frame_id=str(msg.header.frame_id),
            pinhole=(fx, fy, cx, cy),
            d=d,
            distortion_model=str(msg.distortion_model),
        )


@dataclass(kw_only=True)
class InputFacts:
    """All about the images, live or recorded.

    Attributes:
        source: `live`, or the path of a recording.
        request: what the user asked for.
        topics: everything that carries images or camera info.
        choice: what was looked at.
        streams: what came, for the roles that have a topic.
        infos: newest camera info by role.
        arrivals: stream and stamp of each colour and depth image in order of arrival.
        depth: what the depth images measured; None where none could be read.
        agreement: of depth and colour edges; None where it could not be measured.
        clock_publishers: nodes that publish /clock.
        clock_s: newest time on /clock; None where nothing came.
        known_frames: frames in the transform tree; None where tf2_ros is not installed.
        elapsed_s: how long was listened, or how much of the recording was read.
        failure: why the recording or the graph could not be read; empty where it could.
        truncated: whether the recording goes on after what was read.
    """

    source: str
    request: Request
    topics: tuple[TopicFacts, ...] = ()
    choice: Choice = field(default_factory=Choice)
    streams: dict[Role, StreamFacts] = field(default_factory=dict)
    infos: dict[Role, InfoFacts] = field(default_factory=dict)
    arrivals: list[tuple[StreamName, int]] = field(default_factory=list)
    depth: DepthSummary | None = None
    agreement: EdgeAgreement | None = None
    clock_publishers: tuple[str, ...] = ()
    clock_s: float | None = None
    known_frames: frozenset[str] | None = None
    elapsed_s: float = 0.0
    failure: str = ""
    truncated: bool = False

    @property
    def is_live(self) -> bool:
        """Whether a graph was looked at, not a recording."""
        return self.source == "live"

    def topic(self, name: str) -> TopicFacts | None:
        """The topic of a name, or None."""
        return next((topic for topic in self.topics if topic.name == name), None)


@dataclass(frozen=True, kw_only=True)
class WeightsFacts:
    """A weights file.

    Attributes:
        path: as given.
        sha256: of the file; empty where it cannot be read.
        model: what it was saved as; empty where the file does not say.
        num_loaded: entries that fitted the model.
        calibration: set and date of the score calibration; empty where there is none.
        failure: why it cannot be used, in the words of the loader; empty where it can.
    """

    path: str
    sha256: str = ""
    model: str = ""
    num_loaded: int = 0
    calibration: str = ""
    failure: str = ""


@dataclass(frozen=True, kw_only=True)
class MachineFacts:
    """This machine and the settings of this terminal.

    Attributes:
        middleware: name of the ROS middleware in use; empty where rclpy does not say.
        profile_variable: environment variable that names the middleware profile.
        profile_path: its value; empty where it is not set.
        profile_exists: whether there is such a file.
        shared_memory_bytes: segment size in the profile; the middleware's own where it says none.
        shipped_profile: path of this package's profile; empty where it is not installed.
        shm_total_bytes: size of /dev/shm; None where there is none.
        domain_id, discovery_range: as set; empty where they are not.
        torch_version: of PyTorch.
        gpus: name and memory in GiB of each CUDA device.
        operator_cpu, operator_cuda: which kernels of the attention operator run; empty where it
            does not load.
        operator_note: why they are not the compiled ones, or that they do not load.
        cv_bridge: whether cv_bridge is installed.
    """

    middleware: str = ""
    profile_variable: str = "FASTRTPS_DEFAULT_PROFILES_FILE"
    profile_path: str = ""
    profile_exists: bool = False
    shared_memory_bytes: int = 0
    shipped_profile: str = ""
    shm_total_bytes: int | None = None
    domain_id: str = ""
    discovery_range: str = ""
    torch_version: str = ""
    gpus: tuple[tuple[str, float], ...] = ()
    operator_cpu: str = ""
    operator_cuda: str = ""
    operator_note: str = ""
    cv_bridge: bool = False


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything the doctor knows."""

    inputs: InputFacts
    machine: MachineFacts
    weights: WeightsFacts | None = None
