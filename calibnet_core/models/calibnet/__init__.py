"""CalibNet: RGB-D salient instance segmentation (Pei et al., IEEE TIP 2024, arXiv 2307.08098)."""

from calibnet_core.models.calibnet.model import CalibNet, RawPrediction

__all__ = ["CalibNet", "RawPrediction"]
