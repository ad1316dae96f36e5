"""Attention of candidates over a shared context and themselves, never over each other (PHOENIX §3.7)."""

from xfast.kernels.isolation_attention.api import isolation_attention

__all__ = ["isolation_attention"]
