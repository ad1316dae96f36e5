"""Several value systems at once: cluster users, then learn; or learn clusters and weights together (RESEARCH §5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture

from xfast.errors import ParameterError
from xfast.research import convergence, losses
from xfast.research.environment import F64, I64

# Gates of a recovery that deserves the name (RESEARCH §5).
GATES: Mapping[str, float] = {"pearson": 0.8, "assignment": 0.7, "interpretability": 0.6, "diversity": 0.1}


@dataclass(frozen=True)
class Population:
    """Users with histories and preference pairs.

    Attributes
    ----------
    histories
        View name -> ``[U, F]`` what a model may see of each user.
    differences
        ``[U, n, D]`` preferred minus rejected item features.
    truth
        ``[U]`` value system of each user, for judging only.
    systems
        ``[K, D]`` true weights.
    """

    histories: Mapping[str, F64]
    differences: F64
    truth: I64
    systems: F64


@dataclass(frozen=True)
class Recovery:
    """How well value systems were recovered, after matching clusters to systems (Hungarian).

    Attributes
    ----------
    pearson
        Mean correlation of matched weights.
    assignment
        Share of users in the matched cluster.
    purity
        Share of users in the majority system of their cluster.
    interpretability
        Mean share of the three largest weights by magnitude that match in sign and place.
    diversity
        One minus the mean absolute cosine between learned systems.
    accuracy
        Share of pairs that the user's cluster orders rightly.
    """

    pearson: float
    assignment: float
    purity: float
    interpretability: float
    diversity: float
    accuracy: float

    @property
    def passes(self) -> bool:
        """Whether all four gates hold."""
        return all(getattr(self, name) > bound for name, bound in GATES.items())


def two_stage(population: Population, view: str, k: int, *, soft: bool = False, seed: int = 0) -> tuple[F64, F64]:
    """Cluster histories (k-means, or a full-covariance mixture), then fit Bradley-Terry per cluster.

    Returns
    -------
    weights
        ``[k, D]``.
    membership
        ``[U, k]`` rows sum to 1 (one-hot for k-means).
    """
    features = population.histories[view]
    if not 1 <= k <= len(features):
        raise ParameterError(f"k is {k}; there are {len(features)} users")
    if soft:
        mixture = GaussianMixture(k, covariance_type="full", n_init=5, reg_covar=1e-3, random_state=seed).fit(features)
        membership = np.asarray(mixture.predict_proba(features))
    else:
        labels = KMeans(k, n_init=10, random_state=seed).fit_predict(features)
        membership = np.eye(k)[labels]
    return fit_systems(population.differences, membership), membership


def fit_systems(differences: F64, membership: F64, *, start: F64 | None = None, limit: int = 100) -> F64:
    """Membership-weighted Bradley-Terry fit of every cluster, ``[k, D]``: at most `limit` Newton steps from `start`."""
    users, count, width = differences.shape
    flat = differences.reshape(users * count, width)
    out = np.zeros((membership.shape[1], width))
    for cluster, weight in enumerate(membership.T):
        if weight.sum() > 1e-9:
            rows = np.repeat(weight, count)
            keep = rows > 1e-6
            first = None if start is None else start[cluster]
            out[cluster] = convergence.newton(
                flat[keep], losses.bradley_terry(), weights=rows[keep], start=first, limit=limit
            )
    return out


def expectation_maximisation(
    population: Population, k: int, *, restarts: int = 10, steps: int = 20, seed: int = 0, start: F64 | None = None
) -> tuple[F64, F64]:
    """Mixture of Bradley-Terry models from pairs alone; the restart with the highest likelihood wins.

    Parameters
    ----------
    start
        ``[U, k]`` membership to start from (the hybrid starts at the clusters of the histories); one restart then.
    """
    rng = np.random.default_rng(seed)
    best: tuple[float, F64, F64] | None = None
    for _ in range(restarts if start is None else 1):
        membership = rng.dirichlet(np.full(k, 0.3), len(population.differences)) if start is None else start
        weights = None
        for _ in range(steps):
            # Later two Newton steps from the last weights do: they raise the likelihood at a tenth of the price.
            weights = fit_systems(
                population.differences, membership, start=weights, limit=100 if weights is None else 2
            )
            share = np.maximum(membership.mean(axis=0), 1e-9)
            fit = -np.logaddexp(0.0, -np.einsum("und,kd->unk", population.differences, weights)).sum(axis=1)
            joint = fit + np.log(share)
            evidence = np.logaddexp.reduce(joint, axis=1, keepdims=True)
            membership = np.exp(joint - evidence)
        assert weights is not None
        if best is None or float(evidence.sum()) > best[0]:
            best = (float(evidence.sum()), weights, membership)
    assert best is not None
    return best[1], best[2]


def gated_mixture(
    population: Population,
    view: str,
    k: int,
    *,
    hidden: int = 64,
    steps: int = 400,
    rate: float = 0.01,
    auxiliary: float = 0.0,
    seed: int = 0,
) -> tuple[F64, F64]:
    """Mixture whose membership is an MLP of the history, trained end to end.

    Loss: mean negative log likelihood of the mixture + 0.1 mean squared off-diagonal cosine of the systems
    + 0.01 membership entropy + `auxiliary` times the cross-entropy to k-means clusters of the history.
    """
    features = jnp.asarray(population.histories[view], jnp.float32)
    differences = jnp.asarray(population.differences, jnp.float32)
    clusters = jnp.asarray(KMeans(k, n_init=10, random_state=seed).fit_predict(population.histories[view]))
    width = differences.shape[2]
    keys = jax.random.split(jax.random.key(seed), 3)
    parameters = {
        "in": jax.random.normal(keys[0], (features.shape[1], hidden)) / jnp.sqrt(features.shape[1]),
        "out": jax.random.normal(keys[1], (hidden, k)) / jnp.sqrt(hidden),
        "systems": 0.1 * jax.random.normal(keys[2], (k, width)),
    }

    def gate(values: dict[str, jax.Array]) -> jax.Array:
        return jax.nn.log_softmax(jax.nn.relu(features @ values["in"]) @ values["out"])

    def loss(values: dict[str, jax.Array]) -> jax.Array:
        log_share, systems = gate(values), values["systems"]
        fit = jax.nn.log_sigmoid(jnp.einsum("und,kd->unk", differences, systems)).sum(axis=1)
        likelihood = -jax.scipy.special.logsumexp(log_share + fit, axis=1).mean() / differences.shape[1]
        unit = systems / (jnp.linalg.norm(systems, axis=1, keepdims=True) + 1e-6)
        apart = jnp.square(unit @ unit.T - jnp.eye(k)).sum() / (k * (k - 1)) if k > 1 else jnp.float32(0)
        entropy = -(jnp.exp(log_share) * log_share).sum(axis=1).mean()
        guided = -jnp.take_along_axis(log_share, clusters[:, None], axis=1).mean()
        ridge = losses.L2 * jnp.square(systems).sum() / k
        return jnp.asarray(likelihood + 0.1 * apart + 0.01 * entropy + auxiliary * guided + ridge)

    def update(
        state: tuple[dict[str, jax.Array], dict[str, jax.Array], dict[str, jax.Array]], step: jax.Array
    ) -> tuple[tuple[dict[str, jax.Array], dict[str, jax.Array], dict[str, jax.Array]], None]:
        values, first, second = state
        slope = jax.grad(loss)(values)
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, slope)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, slope)
        one, two = 1 - 0.9 ** (step + 1.0), 1 - 0.999 ** (step + 1.0)
        values = jax.tree.map(lambda w, m, v: w - rate * (m / one) / (jnp.sqrt(v / two) + 1e-8), values, first, second)
        return (values, first, second), None

    zeros = jax.tree.map(jnp.zeros_like, parameters)
    (fitted, _, _), _ = jax.jit(lambda s: jax.lax.scan(update, s, jnp.arange(steps)))((parameters, zeros, zeros))
    return np.asarray(fitted["systems"], np.float64), np.asarray(jnp.exp(gate(fitted)), np.float64)


def judge(population: Population, weights: F64, membership: F64) -> Recovery:
    """Compare learned systems ``[k, D]`` and memberships ``[U, k]`` with the truth."""
    k = len(weights)
    labels = membership.argmax(axis=1)
    table = np.zeros((k, len(population.systems)))
    np.add.at(table, (labels, population.truth), 1.0)
    rows, columns = linear_sum_assignment(-table)
    matched = [_correlation(weights[r], population.systems[c]) for r, c in zip(rows, columns, strict=True)]
    tops = [_top_match(weights[r], population.systems[c]) for r, c in zip(rows, columns, strict=True)]
    unit = weights / np.maximum(np.linalg.norm(weights, axis=1, keepdims=True), 1e-12)
    cosines = np.abs(unit @ unit.T)[~np.eye(k, dtype=bool)]
    right = np.einsum("und,ud->un", population.differences, weights[labels]) > 0
    return Recovery(
        pearson=float(np.mean(matched)),
        assignment=float(table[rows, columns].sum() / table.sum()),
        purity=float(table.max(axis=1).sum() / table.sum()),
        interpretability=float(np.mean(tops)),
        diversity=float(1.0 - cosines.mean()) if k > 1 else 0.0,
        accuracy=float(right.mean()),
    )


def _correlation(left: F64, right: F64) -> float:
    return float(np.corrcoef(left, right)[0, 1]) if np.ptp(left) > 0 and np.ptp(right) > 0 else 0.0


def _top_match(learned: F64, truth: F64) -> float:
    def top(weights: F64) -> set[tuple[int, float]]:
        chosen: NDArray[np.int64] = np.argsort(-np.abs(weights), kind="stable")[:3]
        return {(int(column), float(np.sign(weights[column]))) for column in chosen}

    return len(top(learned) & top(truth)) / 3.0
