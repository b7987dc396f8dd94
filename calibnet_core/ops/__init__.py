"""Compiled operators the models need."""

from calibnet_core.ops.library import OperatorInfo, info
from calibnet_core.ops.ms_deform_attn import (
    ms_deform_attn,
    ms_deform_attn_fused,
    ms_deform_attn_reference,
)

__all__ = [
    "OperatorInfo",
    "info",
    "ms_deform_attn",
    "ms_deform_attn_fused",
    "ms_deform_attn_reference",
]
