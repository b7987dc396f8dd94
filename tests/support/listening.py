"""What reaches torch's operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class InputTypes(TorchFunctionMode):
    """Within it, `types` gathers the types of what one operator's first inputs are, while learning.

    Modes entered later have had their say before.
    """

    def __init__(self, operator: Callable[..., Any]) -> None:
        super().__init__()
        self.operator = operator
        self.types: set[torch.dtype] = set()

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call `func`, and remember what it was given if it is the one."""
        if func is self.operator and torch.is_grad_enabled():
            self.types.add(args[0].dtype)
        return func(*args, **(kwargs or {}))
