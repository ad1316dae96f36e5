"""A small sequence-free scorer of the synthetic network: history counts and an item's topic to 18 probabilities.

It stands where a trained ranker stands in the published checks. Anything with the same two methods can be checked
instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from xfast.research import space
from xfast.research.environment import F64, I64
from xfast.research.network import Network

RICH = 6 * len(space.ACTIONS)


class Scorer(Protocol):
    """What the verification suites and trajectory tools need."""

    def predict(self, histories: F64) -> F64:
        """Probabilities ``[H, 6, 18]`` on each topic for histories ``[H, 108]`` (mean counts, topic × action)."""
        ...

    def embed(self, histories: F64) -> F64:
        """User representations ``[H, E]``."""
        ...


@dataclass(frozen=True)
class TopicMLP:
    """One hidden layer from a history to the 6 × 18 logits."""

    weights: dict[str, F64]

    def embed(self, histories: F64) -> F64:
        return np.maximum(_encode(histories) @ self.weights["in"] + self.weights["shift"], 0.0)

    def predict(self, histories: F64) -> F64:
        logits = self.embed(histories) @ self.weights["out"] + self.weights["base"]
        return np.asarray(1.0 / (1.0 + np.exp(-logits))).reshape(len(histories), 6, len(space.ACTIONS))


def _encode(histories: F64) -> F64:
    """Square roots: counts of rare actions (block, report) must stay visible beside frequent ones."""
    return np.sqrt(np.maximum(histories, 0.0))


def sample_history(net: Network, kind: int, length: int, rng: np.random.Generator) -> F64:
    """Mean counts ``[108]`` of actions on `length` random items by a user of one archetype."""
    seen = rng.integers(0, len(net.topics), length)
    acted = rng.random((length, len(space.ACTIONS))) < net.kinds[kind][seen]
    out = np.zeros((6, len(space.ACTIONS)))
    np.add.at(out, net.topics[seen], acted)
    return out.ravel() / length


def truth(net: Network) -> F64:
    """Mean probability of every action by archetype and topic, ``[6, 6, 18]``: the 648 numbers behind the network."""
    return np.stack([[kind[net.topics == topic].mean(axis=0) for topic in range(6)] for kind in net.kinds])


def train(
    net: Network, *, histories: int = 1_200, length: int = 60, hidden: int = 64, steps: int = 600, seed: int = 0
) -> TopicMLP:
    """Fit the scorer to sampled outcomes: each training user acts on fresh items after the history ends."""
    rng = np.random.default_rng(seed)
    kinds: I64 = rng.integers(0, 6, histories)
    past = np.stack([sample_history(net, int(kind), length, rng) for kind in kinds])
    # Expected outcomes per topic with the sampling noise of 40 impressions each.
    outcome = rng.binomial(40, truth(net)[kinds]) / 40.0
    x, y = jnp.asarray(_encode(past), jnp.float32), jnp.asarray(outcome.reshape(histories, RICH), jnp.float32)
    start = {
        "in": jnp.asarray(rng.normal(0, 1 / np.sqrt(RICH), (RICH, hidden)), jnp.float32),
        "shift": jnp.zeros(hidden),
        "out": jnp.asarray(rng.normal(0, 1 / np.sqrt(hidden), (hidden, RICH)), jnp.float32),
        "base": jnp.zeros(RICH),
    }

    def loss(w: dict[str, jax.Array]) -> jax.Array:
        logits = jax.nn.relu(x @ w["in"] + w["shift"]) @ w["out"] + w["base"]
        return jnp.asarray((jax.nn.softplus(logits) - y * logits).mean())

    def update(
        state: tuple[dict[str, jax.Array], dict[str, jax.Array], dict[str, jax.Array]], step: jax.Array
    ) -> tuple[tuple[dict[str, jax.Array], dict[str, jax.Array], dict[str, jax.Array]], None]:
        w, first, second = state
        slope = jax.grad(loss)(w)
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, slope)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, slope)
        one, two = 1 - 0.9 ** (step + 1.0), 1 - 0.999 ** (step + 1.0)
        w = jax.tree.map(lambda a, m, v: a - 0.01 * (m / one) / (jnp.sqrt(v / two) + 1e-8), w, first, second)
        return (w, first, second), None

    zeros = jax.tree.map(jnp.zeros_like, start)
    (fitted, _, _), _ = jax.jit(lambda s: jax.lax.scan(update, s, jnp.arange(steps)))((start, zeros, zeros))
    return TopicMLP({name: np.asarray(value, np.float64) for name, value in fitted.items()})
