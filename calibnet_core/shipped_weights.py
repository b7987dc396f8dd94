"""The weights that come with this package; `weights/README.md` is their model card."""

from __future__ import annotations

from pathlib import Path

from calibnet_core.config import MODELS, ModelConfig

SHIPPED_MODEL = "calibnet_compact"
SHIPPED_WEIGHTS = Path(__file__).with_name("weights") / f"{SHIPPED_MODEL}.safetensors"


def default_weights(model: str | ModelConfig | None) -> Path | None:
    """What stands in where no weights are named.

    Args:
        model: the network asked for; None for none in particular.

    Returns:
        The weights of this package if they are of that network, else None.
    """
    if model in (None, SHIPPED_MODEL, MODELS[SHIPPED_MODEL]):
        return SHIPPED_WEIGHTS
    return None
