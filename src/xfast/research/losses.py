"""The loss family (RESEARCH §3): one parametrised function, so that losses train side by side in one compile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from xfast.errors import ParameterError
from xfast.research.space import NEGATIVE_MASK, POSITIVE_MASK

L2 = 1e-3
MARGIN_TAU = 0.1
DEFAULT_MARGIN = 0.5

Constraint = Literal["none", "harm", "diversity", "positive_diversity"]


@dataclass(frozen=True)
class Loss:
    """One member of the family: ``tau softplus((m - delta) / tau) + lambda calibration + c constraint``.

    Bradley-Terry is ``m = 0, tau = 1``. ``delta = r(preferred) - r(rejected)``; every loss also carries
    ``0.001 ||w||^2``, added by the trainers.

    Attributes
    ----------
    name
        Label used in results.
    margin, tau
        Shape of the pair term.
    calibration
        lambda of the mean squared error between ``sigmoid(r)`` and the item targets.
    constraint, strength
        ``harm``: mean relu(w_negative + 0.1). ``diversity``: relu(0.3 - std(w)). ``positive_diversity``: the same
        over the positive weights alone. 18 actions only.
    """

    name: str
    margin: float = 0.0
    tau: float = 1.0
    calibration: float = 0.0
    constraint: Constraint = "none"
    strength: float = 0.0

    def __post_init__(self) -> None:
        if self.tau <= 0:
            raise ParameterError(f"tau is {self.tau}; it must be > 0")
        if self.calibration < 0 or self.strength < 0:
            raise ParameterError(f"calibration {self.calibration} and strength {self.strength} must be >= 0")


def bradley_terry() -> Loss:
    """Mean ``log(1 + exp(-delta))``."""
    return Loss("bradley_terry")


def margin(m: float = DEFAULT_MARGIN) -> Loss:
    """Smooth margin: mean ``0.1 softplus((m - delta) / 0.1)``."""
    return Loss("margin_bt", margin=m, tau=MARGIN_TAU)


def calibrated(lam: float = 1.0) -> Loss:
    """Bradley-Terry plus ``lam`` times the calibration of both items of the pair."""
    return Loss("calibrated_bt", calibration=lam)


def constrained(stakeholder: str, strength: float) -> Loss:
    """Bradley-Terry plus the stakeholder's constraint; the platform has none.

    Society asks for spread among the positive weights. The source says "std(w)"; but over all weights the published
    start has a standard deviation of 0.7, while its positive weights are equal, which explains why every published run
    of this loss is NaN.
    """
    kinds: dict[str, Constraint] = {"user": "harm", "society": "positive_diversity", "platform": "none"}
    if stakeholder not in kinds:
        raise ParameterError(f"no constraint is defined for {stakeholder!r}; known are {', '.join(kinds)}")
    return Loss("constrained_bt", constraint=kinds[stakeholder], strength=strength)


def hinge(delta: NDArray[np.float64], m: float = DEFAULT_MARGIN) -> float:
    """Exact margin loss, mean ``max(0, m - delta)``: what the smooth one tends to as tau falls."""
    return float(np.maximum(0.0, m - delta).mean())


def coefficients(losses: Sequence[Loss]) -> NDArray[np.float32]:
    """Pack losses as ``[R, 6]``: margin, tau, calibration, and the strengths of the three constraints."""
    rows = [
        (
            loss.margin,
            loss.tau,
            loss.calibration,
            *(loss.strength * (loss.constraint == kind) for kind in ("harm", "diversity", "positive_diversity")),
        )
        for loss in losses
    ]
    return np.array(rows, np.float32).reshape(len(rows), 6)


def value(
    w: jax.Array,
    preferred: jax.Array,
    rejected: jax.Array,
    targets: jax.Array,
    weight: jax.Array,
    packed: jax.Array,
) -> jax.Array:
    """Loss of one mini-batch.

    Parameters
    ----------
    w
        ``[D]`` reward weights.
    preferred, rejected
        ``[B, D]`` item features.
    targets
        ``[B, 2]`` calibration targets in [0, 1] of the preferred and the rejected item.
    weight
        ``[B]`` 1 for a pair, 0 for padding of a short last batch.
    packed
        ``[6]`` one row of `coefficients`.
    """
    m, tau, calibration, harm, diversity, positive_diversity = packed
    good, bad = preferred @ w, rejected @ w
    count = jnp.maximum(weight.sum(), 1.0)
    pair = tau * jax.nn.softplus((m - (good - bad)) / tau)
    errors = (jax.nn.sigmoid(good) - targets[:, 0]) ** 2 + (jax.nn.sigmoid(bad) - targets[:, 1]) ** 2
    total = (weight * (pair + calibration * errors)).sum() / count
    if w.shape[0] == len(NEGATIVE_MASK):
        positive = w[np.flatnonzero(POSITIVE_MASK)]
        total = total + harm * jax.nn.relu(w[np.flatnonzero(NEGATIVE_MASK)] + 0.1).mean()
        total = total + diversity * _narrowness(w, diversity)
        total = total + positive_diversity * _narrowness(positive, positive_diversity)
    return jnp.asarray(total + L2 * (w @ w))


def _narrowness(w: jax.Array, strength: jax.Array) -> jax.Array:
    """``relu(0.3 - std(w))``. The square root has no gradient at equal weights: there it is NaN, as published.

    Runs without the term must not see that NaN (0 * NaN), so they get a harmless constant under the root.
    """
    variance = jnp.where(strength > 0, w.var(), 1.0)
    return jnp.asarray(jax.nn.relu(0.3 - jnp.sqrt(variance)))
