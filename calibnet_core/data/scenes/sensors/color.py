"""What a colour camera makes of the light: exposure, white balance, focus, noise, eight bits."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_Colors = NDArray[np.float32]
_NUM_LEVELS = 4096
_MIDDLE_GRAY = 0.2
_COARSENING = np.float32(2.35)  # gives back the spread that averaging takes


@dataclass(frozen=True, kw_only=True)
class ColorCamera:
    """An inexpensive colour camera with its faults.

    Attributes:
        gain: linear, what the radiance is multiplied by.
        balance: (red, green, blue) further gains.
        vignette: share of the light that is lost in the corners, 0..1.
        blur: standard deviation of the focus as a share of the picture's width.
        photon_noise: standard deviation at full white, linear; falls with the root of the light.
        read_noise: standard deviation in the dark, linear.
        is_grain_coarse: whether noise spreads over neighbours, as demosaicing leaves it.
        gamma, contrast: of the tone curve; contrast 0 is none, 1 a full S.
        saturation: 1 leaves colours as they are.
        sharpening: 0 none; edges are overshot by this share.
        jpeg_quality: 1..100, or 0 where the picture is not compressed.
    """

    gain: float
    balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    vignette: float = 0.0
    blur: float = 0.0
    photon_noise: float = 0.0
    read_noise: float = 0.0
    is_grain_coarse: bool = False
    gamma: float = 2.2
    contrast: float = 0.0
    saturation: float = 1.0
    sharpening: float = 0.0
    jpeg_quality: int = 0

    def photograph(self, radiance: _Colors, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Take a photo.

        Args:
            radiance: (H, W, 3) float32 linear, 0 or more.
            rng: of the noise.

        Returns:
            (H, W, 3) uint8 sRGB.
        """
        exposed = radiance * (np.float32(self.gain) * np.array(self.balance, np.float32))
        if self.vignette:
            exposed *= self._light_left(radiance.shape[:2])[..., None]
        if self.blur:
            exposed = np.asarray(cv2.GaussianBlur(exposed, (0, 0), self.blur * radiance.shape[1]))
        if self.photon_noise or self.read_noise:
            exposed = self._noisy(exposed, rng)
        pixels = self._to_srgb(exposed)
        if self.sharpening:
            soft = cv2.GaussianBlur(pixels, (0, 0), 1.0)
            pixels = np.asarray(
                cv2.addWeighted(pixels, 1 + self.sharpening, soft, -self.sharpening, 0.0), np.uint8
            )
        if self.jpeg_quality:
            options = [cv2.IMWRITE_JPEG_QUALITY, self.jpeg_quality]
            _, data = cv2.imencode(".jpg", pixels, options)
            pixels = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
        return pixels

    def _light_left(self, size: tuple[int, ...]) -> _Colors:
        rows = np.linspace(-1, 1, size[0], dtype=np.float32)[:, None]
        columns = np.linspace(-1, 1, size[1], dtype=np.float32)[None, :]
        return np.asarray(1 - np.float32(self.vignette) * (rows**2 + columns**2) / 2)

    def _noisy(self, exposed: _Colors, rng: np.random.Generator) -> _Colors:
        grain = rng.standard_normal(exposed.shape, np.float32)
        if self.is_grain_coarse:
            grain = np.asarray(cv2.GaussianBlur(grain, (3, 3), 0.7)) * _COARSENING
        variance = np.float32(self.photon_noise**2) * np.maximum(exposed, 0)
        return np.asarray(exposed + grain * np.sqrt(variance + np.float32(self.read_noise**2)))

    def _to_srgb(self, exposed: _Colors) -> NDArray[np.uint8]:
        tone = np.linspace(0.0, 1.0, _NUM_LEVELS) ** (1 / self.gamma)
        tone = (1 - self.contrast) * tone + self.contrast * (3 * tone**2 - 2 * tone**3)
        table = np.rint(255 * tone).astype(np.uint8)
        top = np.float32(_NUM_LEVELS - 1)
        pixels = table[np.clip(exposed * top, 0, top).astype(np.uint16)]
        if self.saturation != 1.0:
            gray = pixels.mean(axis=2, dtype=np.float32, keepdims=True)
            pixels = np.clip(gray + np.float32(self.saturation) * (pixels - gray), 0, 255)
        return np.asarray(pixels, np.uint8)


def sample_color_camera(radiance: _Colors, rng: np.random.Generator) -> ColorCamera:
    """A camera that exposes this picture about right, every time with other faults.

    Args:
        radiance: (H, W, 3) linear, of the picture to expose for.
        rng: chooses.
    """
    warm, tint = rng.normal(0.0, 0.08), rng.normal(0.0, 0.03)
    target = _MIDDLE_GRAY * 2.0 ** rng.normal(0.0, 0.5)
    return ColorCamera(
        gain=target / max(float(np.mean(radiance)), 1e-4),
        balance=(float(np.exp(warm)), float(np.exp(tint)), float(np.exp(-warm))),
        vignette=rng.uniform(0.0, 0.3),
        blur=_sometimes(rng, 0.6, 0.3 / 320, 0.9 / 320),
        photon_noise=rng.uniform(0.0, 0.03),
        read_noise=rng.uniform(0.0, 0.01),
        is_grain_coarse=bool(rng.random() < 0.5),
        gamma=rng.uniform(1.9, 2.5),
        contrast=rng.uniform(0.0, 0.5),
        saturation=_sometimes(rng, 0.3, 0.3, 1.3) or 1.0,
        sharpening=_sometimes(rng, 0.3, 0.3, 1.2),
        jpeg_quality=int(_sometimes(rng, 0.5, 40, 95)),
    )


def _sometimes(rng: np.random.Generator, share: float, low: float, high: float) -> float:
    """A value between the two in this share of cases, else 0."""
    value = rng.uniform(low, high)
    return value if rng.random() < share else 0.0
