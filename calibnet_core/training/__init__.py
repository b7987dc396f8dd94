"""Training: losses, data order, optimisation and the loop around them."""

from calibnet_core.models.calibnet.criterion import Criterion, LossWeights
from calibnet_core.training.losses import compute_losses

__all__ = ["Criterion", "LossWeights", "compute_losses"]
