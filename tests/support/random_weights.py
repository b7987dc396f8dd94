"""Networks with weights and statistics that are nowhere zero or one."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def randomised(network: Network) -> Network:
    """Draw every weight, bias and running statistic anew, in place; evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    for key, value in network.state_dict().items():
        if value.is_floating_point():
            drawn = torch.randn(value.shape, generator=generator)
            value.copy_(drawn.abs() + 0.5 if key.endswith("running_var") else drawn)
    return network.eval()
