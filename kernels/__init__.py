"""Pallas kernels of Phoenix, one folder per operation."""
