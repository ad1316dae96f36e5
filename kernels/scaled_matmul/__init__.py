"""int8 matrix products with fused dequantisation, and optionally the gated gelu of the feed-forward layer."""

from xfast.kernels.scaled_matmul.api import quantize_columns, quantize_rows, scaled_matmul

__all__ = ["quantize_columns", "quantize_rows", "scaled_matmul"]
