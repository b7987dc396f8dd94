"""CalibNet on one screen: two encoders, a mask branch, a kernel branch and their product.

The layout is figure 2 of the paper; where paper and published code differ, the published code is
followed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from calibnet_core.models.calibnet.encoder import (
    EncoderLevels,
    ModalityEncoder,
    backbone_levels,
)
from calibnet_core.models.calibnet.stacked_encoders import StackedEncoders


@dataclass
class RawPrediction:
    """What the network says about a batch: N candidate instances, nothing thresholded.

    Attributes:
        score_logits: (B, N), is candidate n a salient instance.
        objectness_logits: (B, N), how well its mask fits.
        kernels: (B, N, C), the dynamic 1x1 convolution of each candidate.
        mask_logits: (B, N, H/4, W/4), before the x2 upsampling of loss and postprocessing.
        auxiliary_logits: in training, region logits of every encoder output that is supervised:
            `rgb_t3` and `depth_t3` (B, 1, H/8, W/8), `rgb_c2` and `depth_d2` (B, 1, H/4, W/4).
            A network that does not look at depth has those of colour only. Empty otherwise.
    """

    score_logits: Tensor
    objectness_logits: Tensor
    kernels: Tensor
    mask_logits: Tensor
    auxiliary_logits: dict[str, Tensor] = field(default_factory=dict)


def assemble_mask_logits(kernels: Tensor, mask_features: Tensor) -> Tensor:
    """Apply every instance kernel to the shared mask features as a 1x1 convolution.

    Args:
        kernels: (B, N, C), one kernel per candidate instance.
        mask_features: (B, C, H/4, W/4), where H and W are the network input size.

    Returns:
        Mask logits, (B, N, H/4, W/4). Take the sigmoid for probabilities.
    """
    return torch.einsum("bnc,bchw->bnhw", kernels, mask_features)


class CalibNet(nn.Module):
    """RGB-D salient instance segmentation.

    Args:
        rgb_encoder, depth_encoder: image (B, 3, H, W) to `EncoderLevels`; same structure, separate
            weights.
        mask_branch: levels of both modalities into mask features (B, C, H/4, W/4).
        kernel_branch: T3 of both modalities into N kernels with their scores.
        auxiliary_heads: region predictors that training supervises, by the names of
            `auxiliary_logits`.
    """

    def __init__(
        self,
        *,
        rgb_encoder: nn.Module,
        depth_encoder: nn.Module,
        mask_branch: nn.Module,
        kernel_branch: nn.Module,
        auxiliary_heads: Mapping[str, nn.Module],
    ) -> None:
        super().__init__()
        self.rgb_encoder, self.depth_encoder = rgb_encoder, depth_encoder
        self.mask_branch, self.kernel_branch = mask_branch, kernel_branch
        self.auxiliary_heads = nn.ModuleDict(auxiliary_heads)
        self.stacked_encoders: StackedEncoders | None = None
        """Both encoders as one, where `inference_form` has prepared it."""

    def forward(self, rgb: Tensor, depth: Tensor) -> RawPrediction:
        """Predict N candidate instances.

        Args:
            rgb: (B, 3, H, W) float32, normalised; H and W are multiples of 32.
            depth: (B, 3, H, W) float32, the depth picture repeated to three channels, normalised
                likewise.

        Raises:
            ValueError: the shapes are not as above.
        """
        if (
            rgb.dim() != 4
            or rgb.shape != depth.shape
            or rgb.shape[1] != 3
            or rgb.shape[2] % 32
            or rgb.shape[3] % 32
        ):
            raise ValueError(
                f"rgb is {tuple(rgb.shape)} and depth {tuple(depth.shape)}; expected both "
                "(B, 3, H, W) with H and W multiples of 32, as preprocessing.prepare pads"
            )
        rgb_levels, depth_levels = self.encode(rgb, depth)
        mask_features = self.mask_branch(rgb_levels, depth_levels)
        kernels, score_logits, objectness_logits = self.kernel_branch(
            rgb_levels.t3, depth_levels.t3
        )
        return RawPrediction(
            score_logits=score_logits,
            objectness_logits=objectness_logits,
            kernels=kernels,
            mask_logits=assemble_mask_logits(kernels, mask_features),
            auxiliary_logits=self._auxiliary_logits(rgb_levels, depth_levels)
            if self.training
            else {},
        )

    def encode(self, rgb: Tensor, depth: Tensor) -> tuple[EncoderLevels, EncoderLevels]:
        """Both encoders, arguments as in `forward`."""
        if self.stacked_encoders is not None:
            stacked: tuple[EncoderLevels, EncoderLevels] = self.stacked_encoders(rgb, depth)
            return stacked
        if isinstance(self.depth_encoder, ModalityEncoder) and self.depth_encoder.borrows:
            assert isinstance(self.rgb_encoder, ModalityEncoder)
            of_rgb, of_depth = backbone_levels(self.rgb_encoder, self.depth_encoder, rgb, depth)
            return self.rgb_encoder.encode(of_rgb), self.depth_encoder.encode(of_depth)
        return self.rgb_encoder(rgb), self.depth_encoder(depth)

    def _auxiliary_logits(
        self, rgb_levels: EncoderLevels, depth_levels: EncoderLevels
    ) -> dict[str, Tensor]:
        supervised = {
            "rgb_t3": rgb_levels.t3,
            "depth_t3": depth_levels.t3,
            "rgb_c2": rgb_levels.c2,
            "depth_d2": depth_levels.c2,
        }
        return {name: head(supervised[name]) for name, head in self.auxiliary_heads.items()}
