"""Which implementation of an operation runs where, and why a named one cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax

from xfast.errors import ParameterError

__all__ = ["IMPLEMENTATIONS", "Implementation", "Platform", "choose", "current", "lowers_as", "runs_on"]

Platform = Literal["cpu", "tpu", "gpu", "hopper"]
"""``hopper`` is a GPU of compute capability 9, whose warpgroup products no other generation has."""
Implementation = Literal["xla", "mosaic_tpu", "mosaic_gpu", "triton"]

_BEST: dict[Platform, tuple[Implementation, ...]] = {
    "cpu": ("xla",),
    "tpu": ("mosaic_tpu", "xla"),
    "gpu": ("triton", "xla"),
    "hopper": ("mosaic_gpu", "triton", "xla"),
}
IMPLEMENTATIONS: tuple[Implementation, ...] = ("xla", "mosaic_tpu", "mosaic_gpu", "triton")


def current() -> Platform:
    """The platform of JAX's default device."""
    backend = jax.default_backend()
    if backend in ("cpu", "tpu"):
        return "tpu" if backend == "tpu" else "cpu"
    capability = str(getattr(jax.devices()[0], "compute_capability", ""))
    return "hopper" if capability.startswith("9.") else "gpu"


def runs_on(implementation: Implementation) -> tuple[Platform, ...]:
    """Platforms whose devices run an implementation."""
    return tuple(platform for platform, best in _BEST.items() if implementation in best)


def lowers_as(platform: Platform) -> str:
    """JAX's name of a platform, for ``lowering_platforms``."""
    return {"gpu": "cuda", "hopper": "cuda"}.get(platform, platform)


def choose(
    implementation: Implementation | None,
    platform: Platform | None,
    interpret: Any,
    obstacle: Callable[[Implementation], str | None],
) -> Implementation:
    """The named implementation, or the best one for a platform.

    Parameters
    ----------
    implementation
        None for the best.
    platform
        What to compile for; None for the default device's.
    interpret
        Anything true: the kernel is interpreted, so that the device does not matter.
    obstacle
        Says why an implementation cannot take these operands, or None.

    Raises
    ------
    ParameterError
        An unknown name.
    NotImplementedError
        A named implementation that cannot run, with the reason.
    """
    for name, value, allowed in (
        ("platform", platform, tuple(_BEST)), ("implementation", implementation, IMPLEMENTATIONS),
    ):  # fmt: skip
        if value is not None and value not in allowed:
            raise ParameterError(f"{name} is {value!r}, must be {', '.join(allowed[:-1])} or {allowed[-1]}")
    here = platform or current()
    if implementation is None:
        return next(one for one in _BEST[here] if obstacle(one) is None)
    reason = obstacle(implementation)
    if reason is None and not interpret and here not in runs_on(implementation):
        reason = f"it runs on {' or '.join(runs_on(implementation))}, this is {here} (interpret=True simulates it)"
    if reason is not None:
        raise NotImplementedError(f"implementation={implementation!r}: {reason}")
    return implementation
