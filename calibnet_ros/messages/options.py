"""What of the outputs can be chosen."""

from __future__ import annotations

from dataclasses import dataclass

from calibnet_core.perception.mask_codec import MaskEncoding
from calibnet_core.perception.surface import MaskedDepth

LABEL = "salient_object"
"""Name of the only class."""


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """How outputs are made.

    Raises:
        ValueError: a value is out of range; the message names it.
    """

    mask_encoding: MaskEncoding = MaskEncoding.BITS
    """Of the masks in the result."""
    points_stride: int = 2
    """Every so many rows and columns the cloud has a point, 1 to 16."""
    masked_depth: MaskedDepth = "remove"
    """Whether the masked depth image loses the objects (`remove`) or everything else (`keep`)."""
    jpeg_quality: int = 85
    """Of the compressed overlay, 1 to 100."""
    png_level: int = 1
    """Effort spent on the compressed label image, 0 to 9; all are lossless."""
    marker_lifetime_s: float = 3.0
    """Markers vanish when no newer ones came for so long, 0 to 60 seconds; 0 keeps them."""

    def __post_init__(self) -> None:
        for name, lowest, highest in (
            ("points_stride", 1, 16),
            ("jpeg_quality", 1, 100),
            ("png_level", 0, 9),
            ("marker_lifetime_s", 0, 60),
        ):
            value = getattr(self, name)
            if not lowest <= value <= highest:  # false for NaN too
                raise ValueError(f"output.{name} is {value}; choose {lowest} to {highest}")
        if self.masked_depth not in ("keep", "remove"):
            raise ValueError(f"output.masked_depth is '{self.masked_depth}'; choose keep or remove")


DEFAULTS = OutputOptions()
