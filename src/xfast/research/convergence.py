"""Converged fits: the minimum of a loss, whatever the optimiser (the "honest" axis beside step-limited Adam).

Bradley-Terry and its smooth margin are convex and smooth: damped Newton, batched over runs, reaches the optimum in a
handful of steps at D = 18..35. Calibrated losses are not convex; L-BFGS finds the stationary point reached from the
published start.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from threadpoolctl import threadpool_limits

from xfast.errors import ParameterError
from xfast.research.environment import F64
from xfast.research.losses import L2, Loss
from xfast.research.training import Run

MAX_NEWTON = 100
GRADIENT_TOLERANCE = 1e-10


def fit(features: F64, runs: Sequence[Run], *, l2: float = L2) -> F64:
    """Minimise every run's loss to a gradient norm of about 1e-8 or better.

    Parameters
    ----------
    features
        ``[I, D]`` item features.
    l2
        Ridge strength; the published one is 0.001.

    Returns
    -------
    ``[R, D]`` weights, float64.

    Raises
    ------
    ParameterError
        `l2` is not positive (separable pairs then have no optimum), or a loss has a constraint.
    """
    if l2 <= 0:
        raise ParameterError(f"l2 is {l2}; it must be > 0, separable pairs have no finite optimum without it")
    out = np.empty((len(runs), features.shape[1]))
    # The products are small: a second BLAS thread only spins.
    with threadpool_limits(1, user_api="blas"):
        for row, run in enumerate(runs):
            out[row] = _fit_one(features, row, run, l2)
    return out


def _fit_one(features: F64, row: int, run: Run, l2: float) -> F64:
    if run.loss.constraint != "none" and run.loss.strength > 0:
        raise ParameterError(f"run {row}: {run.loss.name} with a constraint has a kink; train it with Adam")
    if run.loss.calibration > 0:
        return _calibrated(features, run, l2)
    return newton(features[run.pairs[:, 0]] - features[run.pairs[:, 1]], run.loss, l2=l2)


def newton(
    differences: F64,
    loss: Loss,
    *,
    l2: float = L2,
    weights: F64 | None = None,
    start: F64 | None = None,
    limit: int = MAX_NEWTON,
) -> F64:
    """Damped Newton on ``mean tau softplus((m - x.w)/tau) + l2 ||w||^2``.

    Parameters
    ----------
    differences
        ``[n, D]`` preferred minus rejected features.
    weights
        ``[n]`` non-negative pair weights (soft cluster membership), or None for equal ones.
    start
        ``[D]`` first iterate, zeros by default.
    limit
        Newton steps at most; an outer loop that refits anyway needs only a few.

    Returns
    -------
    ``[D]`` optimum.
    """
    share = np.full(len(differences), 1.0 / len(differences)) if weights is None else weights / weights.sum()
    w = np.zeros(differences.shape[1]) if start is None else start
    value = _convex_value(differences, w, loss, l2, share)
    for _ in range(limit):
        tilt = expit((loss.margin - differences @ w) / loss.tau)
        gradient = -differences.T @ (share * tilt) + 2 * l2 * w
        if np.abs(gradient).max() < GRADIENT_TOLERANCE:
            break
        curvature = share * tilt * (1 - tilt) / loss.tau
        hessian = (differences * curvature[:, None]).T @ differences + 2 * l2 * np.eye(len(w))
        direction = -np.linalg.solve(hessian, gradient)
        slope, scale = gradient @ direction, 1.0
        while True:
            trial = w + scale * direction
            trial_value = _convex_value(differences, trial, loss, l2, share)
            if trial_value <= value + 1e-4 * scale * slope or scale < 1e-10:
                break
            scale *= 0.5
        w, value = trial, trial_value
        if -slope < 1e-18:
            break
    return w


def _convex_value(differences: F64, w: F64, loss: Loss, l2: float, share: F64) -> float:
    return float(share @ (loss.tau * np.logaddexp(0.0, (loss.margin - differences @ w) / loss.tau)) + l2 * (w @ w))


def _calibrated(features: F64, run: Run, l2: float) -> F64:
    if run.targets is None:
        raise ParameterError(f"{run.loss.name} needs calibration targets per item")
    good, bad = features[run.pairs[:, 0]], features[run.pairs[:, 1]]
    aim_good, aim_bad = run.targets[run.pairs[:, 0]], run.targets[run.pairs[:, 1]]
    n, loss = len(run.pairs), run.loss

    def value(w: F64) -> tuple[float, F64]:
        delta = (good - bad) @ w
        tilt = expit((loss.margin - delta) / loss.tau)
        total = loss.tau * np.logaddexp(0.0, (loss.margin - delta) / loss.tau).mean() + l2 * (w @ w)
        slope = -(good - bad).T @ tilt / n + 2 * l2 * w
        for rows, aims in ((good, aim_good), (bad, aim_bad)):
            probability = expit(rows @ w)
            error = probability - aims
            total += loss.calibration * (error**2).mean()
            slope += loss.calibration * rows.T @ (2 * error * probability * (1 - probability)) / n
        return float(total), slope

    start = np.full(features.shape[1], 0.1) if run.initial is None else run.initial
    return np.asarray(minimize(value, start, jac=True, method="L-BFGS-B", options={"maxiter": 2000, "gtol": 1e-9}).x)
