"""The typed values that parts of the system hand to each other.

Arrays are numpy and live on the host: they come from a camera, a file or a bag and go to a message
or a file. Tensors stay inside `models`, `preprocessing` and `postprocess`.

Conventions: sizes are (height, width), points (x, y), boxes (x_min, y_min, x_max, y_max) in pixels
with pixel (0, 0) centred on the top-left pixel and `x_max`, `y_max` exclusive; lengths are metres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from calibnet_core.config import Precision

MAX_IMAGE_PIXELS = 1 << 26
"""Images above 67 million pixels are refused: no RGB-D camera makes them, a corrupt header does."""
MAX_IMAGE_EDGE = 1 << 14
"""So are images with a side above this; what is kept for each row and column stays small."""


class FrameError(ValueError):
    """A frame cannot be processed; the message says what is wrong and how to mend it."""


class WeightsError(ValueError):
    """Weights cannot be read or belong to another model; nothing was loaded."""


class NonFiniteOutputError(RuntimeError):
    """The network produced NaN or infinity; no mask may be made from that."""


@dataclass(frozen=True, kw_only=True)
class CameraIntrinsics:
    """Pinhole intrinsics of the colour image.

    Attributes:
        height, width: image size in pixels.
        fx, fy: focal lengths in pixels, above 0.
        cx, cy: principal point in pixels.
        distortion_model: ROS name of the model, empty when the image is rectified.
        distortion: coefficients in the order of that model.
    """

    height: int
    width: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion_model: str = ""
    distortion: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not (
            self.fx > 0.0
            and self.fy > 0.0
            and all(map(math.isfinite, (self.fx, self.fy, self.cx, self.cy)))
        ):
            raise FrameError(
                f"camera intrinsics fx={self.fx}, fy={self.fy}, cx={self.cx}, cy={self.cy} are not "
                "usable; calibrate the camera or leave the intrinsics out"
            )

    def resized(self, size: tuple[int, int]) -> CameraIntrinsics:
        """Those of the same image resized to (height, width); pixel centres go where they were."""
        down, across = size[0] / self.height, size[1] / self.width
        return replace(
            self,
            height=size[0],
            width=size[1],
            fx=self.fx * across,
            fy=self.fy * down,
            cx=(self.cx + 0.5) * across - 0.5,
            cy=(self.cy + 0.5) * down - 0.5,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class RgbdFrame:
    """One colour image with the depth registered to it.

    Depth comes in one of two forms: `depth_m`, measured, or `depth_map`, the 8-bit picture of depth
    that RGB-D saliency data sets ship, whose scale is unknown and which reaches the network
    unchanged.

    Attributes:
        rgb: (H, W, 3) uint8, red first.
        depth_m: (H, W) float32 metres along the optical axis; NaN, infinite, zero or negative means
            that nothing was measured there.
        depth_map: (H, W) uint8 in 0..255, only where `depth_m` is None.
        depth_encoding: ROS name of the encoding in which `depth_m` came, `16UC1` for instance.
        intrinsics: of the colour image, when known.
        stamp_ns: acquisition time of the colour image in nanoseconds, 0 when unknown.
        frame_id: coordinate frame of the colour image.
        name: what to call the frame in files and reports.

    Raises:
        FrameError: an array has the wrong type or shape, or the two sizes differ.
    """

    rgb: NDArray[np.uint8]
    depth_m: NDArray[np.float32] | None = None
    depth_map: NDArray[np.uint8] | None = None
    depth_encoding: str = "32FC1"
    intrinsics: CameraIntrinsics | None = None
    stamp_ns: int = 0
    frame_id: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        rgb = self.rgb
        if (
            not isinstance(rgb, np.ndarray)
            or rgb.dtype != np.uint8
            or rgb.ndim != 3
            or rgb.shape[2] != 3
        ):
            raise FrameError(
                f"rgb is {_describe(rgb)}; expected a uint8 array of shape (height, width, 3)"
            )
        height, width, _ = rgb.shape
        if not 0 < height * width <= MAX_IMAGE_PIXELS or max(height, width) > MAX_IMAGE_EDGE:
            raise FrameError(
                f"rgb has size {rgb.shape[:2]}; expected 1 to {MAX_IMAGE_PIXELS} pixels and at "
                f"most {MAX_IMAGE_EDGE} a side"
            )
        if (self.depth_m is None) == (self.depth_map is None):
            raise FrameError(
                "give depth either as depth_m (float32 metres) or as depth_map (uint8), "
                "not both or none"
            )
        depth, dtype, label = (
            (self.depth_m, np.float32, "depth_m")
            if self.depth_m is not None
            else (self.depth_map, np.uint8, "depth_map")
        )
        if not isinstance(depth, np.ndarray) or depth.dtype != dtype or depth.ndim != 2:
            raise FrameError(
                f"{label} is {_describe(depth)}; expected a {dtype.__name__} array of shape "
                "(height, width)"
            )
        if depth.shape != rgb.shape[:2]:
            raise FrameError(
                f"rgb is {rgb.shape[1]}x{rgb.shape[0]} but depth is "
                f"{depth.shape[1]}x{depth.shape[0]} (width x height); "
                "use the camera driver's depth that is aligned to colour"
            )

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return int(self.rgb.shape[0]), int(self.rgb.shape[1])


@dataclass(frozen=True, kw_only=True, eq=False)
class Instances:
    """The answer for one frame: K objects at the size of the input image.

    Attributes:
        masks: (K, H, W) bool.
        scores: (K,) float32 in [0, 1].
        boxes_xyxy: (K, 4) float32 pixels, tight around each mask, maxima exclusive; zeros for an
            empty mask.
        mask_quality: (K,) float32, mean foreground probability inside the mask in [0, 1]; NaN when
            unknown.
        kernel_indices: (K,) int64, which of the network's kernels made the instance.
        raw_scores: (K,) float32 in [0, 1], the network's own scores before calibration; `scores`
            where nothing is calibrated.
    """

    masks: NDArray[np.bool_]
    scores: NDArray[np.float32]
    boxes_xyxy: NDArray[np.float32]
    mask_quality: NDArray[np.float32]
    kernel_indices: NDArray[np.int64]
    raw_scores: NDArray[np.float32]

    def __len__(self) -> int:
        return int(self.scores.shape[0])

    def __getitem__(self, chosen: NDArray[np.bool_] | NDArray[np.int64] | slice) -> Instances:
        """The instances that a (K,) bool array, indices or a slice choose."""
        return Instances(
            **{entry.name: getattr(self, entry.name)[chosen] for entry in fields(self)}
        )

    @classmethod
    def from_masks(
        cls,
        masks: NDArray[np.bool_],
        scores: NDArray[np.float32],
        *,
        mask_quality: NDArray[np.float32] | None = None,
        kernel_indices: NDArray[np.int64] | None = None,
        raw_scores: NDArray[np.float32] | None = None,
    ) -> Instances:
        """Build instances from (K, H, W) masks and (K,) scores; boxes follow from the masks."""
        count = masks.shape[0]
        scores = scores.astype(np.float32, copy=False)
        return cls(
            masks=masks,
            scores=scores,
            boxes_xyxy=boxes_from_masks(masks),
            mask_quality=np.full(count, np.nan, np.float32)
            if mask_quality is None
            else mask_quality,
            kernel_indices=np.arange(count, dtype=np.int64)
            if kernel_indices is None
            else kernel_indices,
            raw_scores=scores if raw_scores is None else raw_scores,
        )

    @classmethod
    def empty(cls, size: tuple[int, int]) -> Instances:
        """No instance in an image of (height, width) pixels."""
        return cls.from_masks(np.zeros((0, *size), np.bool_), np.zeros(0, np.float32))


@dataclass(frozen=True, kw_only=True)
class StageTimings:
    """Wall time of one prediction by stage, in milliseconds of a monotonic clock."""

    preprocess_ms: float
    inference_ms: float
    postprocess_ms: float


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """Who answers.

    Attributes:
        name: model name, for instance `calibnet_r50`.
        weights_sha256: 64 hexadecimal digits of the weights file, empty when the weights are
            random.
        device: where the network really runs, as torch writes it: `cpu` or `cuda:0`.
        device_name: what the maker calls it, for instance `NVIDIA H100`; empty on the CPU.
        precision: arithmetic of the network: `fp32`, or where it is safe `fp16` or `bf16`.
        calibration_set: data set that the scores are calibrated on, empty when they are not.
        calibration_date: day of that fit as YYYY-MM-DD, empty likewise.
    """

    name: str
    weights_sha256: str
    device: str
    device_name: str = ""
    precision: Precision = "fp32"
    calibration_set: str = ""
    calibration_date: str = ""

    @property
    def has_random_weights(self) -> bool:
        """True when no weights were given; the masks then mean nothing."""
        return not self.weights_sha256

    @property
    def model_id(self) -> str:
        """Name and first 8 digits of the hash: enough to tell results apart."""
        return f"{self.name}-{self.weights_sha256[:8] or 'random'}"

    @property
    def device_label(self) -> str:
        """Device and its name, for people: `cpu` or `cuda:0 NVIDIA H100`."""
        return f"{self.device} {self.device_name}".rstrip()


def boxes_from_masks(masks: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Tight boxes of (K, H, W) masks as (K, 4) float32 xyxy, maxima exclusive."""
    boxes = np.zeros((masks.shape[0], 4), np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
        if columns.size:
            box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes


def _describe(value: Any) -> str:
    return (
        f"{value.dtype} of shape {value.shape}"
        if isinstance(value, np.ndarray)
        else type(value).__name__
    )
