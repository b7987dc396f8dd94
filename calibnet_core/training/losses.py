"""One call from a batch to its losses."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from calibnet_core.models.calibnet.criterion import Criterion
from calibnet_core.models.calibnet.model import CalibNet


def compute_losses(
    model: CalibNet,
    rgb: Tensor,
    depth: Tensor,
    masks: Sequence[Tensor],
    *,
    criterion: Criterion | None = None,
    sizes: Sequence[tuple[int, int]] | None = None,
) -> dict[str, Tensor]:
    """Run the model and weigh its errors, as published unless a criterion says otherwise.

    Args:
        model: in training mode.
        rgb: (B, 3, H, W) float32 as `CalibNet.forward` takes it.
        depth: the same of the depth picture.
        masks: for each image (n, H, W) bool, its instances on the padded canvas; n may be 0.
        criterion: weights of the terms; None takes the published ones.
        sizes: (height, width) of each image inside the padding, for a criterion that masks it.

    Returns:
        Scalars `loss_ce`, `loss_dice`, `loss_mask`, `loss_objectness`, `loss_t3`, `loss_d3`,
        `loss_r2` and `loss_d2`, each times its weight, and `total`, their sum. Call
        `backward()` on the total.

    Raises:
        ValueError: the model is in evaluation mode, shapes do not fit, or predictions are not
            finite.
    """
    if not model.training:
        raise ValueError("the model is in evaluation mode; call model.train() first")
    return (criterion or Criterion())(model(rgb, depth), masks, sizes)
