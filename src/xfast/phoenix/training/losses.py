"""Losses, as pure functions of arrays; every reduction is over weights, so that padding costs nothing.

Shapes: E examples, M shared negatives, H hard negatives, A action columns.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from xfast.phoenix.config import ContinuousActionConfig

__all__ = ["continuous_loss", "dropout", "multi_label_loss", "normalised", "sampled_softmax", "tweedie"]


def multi_label_loss(logits: Array, labels: Array, weights: Array) -> Array:
    """Masked binary cross-entropy summed over columns, averaged over examples.

    Parameters
    ----------
    logits, labels : [E, A]
        Labels are 0 or 1.
    weights : [E, A]
        0 where a label is unknown or masked; an example counts if any of its weights is not 0.
    """
    losses = jnp.maximum(logits, 0) - logits * labels + jnp.log1p(jnp.exp(-jnp.abs(logits)))
    counted = jnp.sum(jnp.any(weights != 0, axis=-1))
    return jnp.sum(losses * weights) / jnp.maximum(counted, 1)


def tweedie(prediction: Array, target: Array, power: float) -> Array:
    """Tweedie deviance up to a constant of the target, for 1 < power < 2: fit for many zeros and a long tail."""
    mean = jnp.maximum(prediction, 1e-6)
    return jnp.power(mean, 2 - power) / (2 - power) - target * jnp.power(mean, 1 - power) / (1 - power)


def continuous_loss(prediction: Array, target: Array, weights: Array, config: ContinuousActionConfig) -> Array:
    """Weighted mean over examples of the loss that the head's configuration names; all [E], normalised units."""
    if config.loss_type == "mae":
        losses = jnp.abs(prediction - target)
    else:
        losses = tweedie(prediction, target, config.tweedie_power)
    return config.loss_weight * jnp.sum(losses * weights) / jnp.maximum(jnp.sum(weights), 1)


def sampled_softmax(
    users: Array,
    positives: Array,
    shared: Array,
    log_correction: Array,
    allowed: Array,
    temperature: Array,
    weights: Array,
    hard: Array | None = None,
    hard_allowed: Array | None = None,
) -> Array:
    """Cross-entropy of the positive against shared (and own hard) negatives, on unit vectors.

    The partition sum is ``exp(positive) + sum over allowed negatives of exp(negative - log_correction)``: with
    ``log_correction = log(expected times that the negative is drawn)`` this estimates the softmax over the catalogue
    without bias, and with all posts as negatives and a correction of 0 it is that softmax.

    Parameters
    ----------
    users, positives : [E, D]
        Unit vectors.
    shared : [M, D]
        Negatives of all examples.
    log_correction : [M]
        See above.
    allowed : [E, M]
        0 where a negative is the example's own positive, or a post that the user knows; 1 elsewhere.
    temperature : []
        Divides the cosines.
    weights : [E]
        Weight of an example.
    hard : [E, H], optional
        Cosines of the example with its own hard negatives; ``hard_allowed`` [E, H] masks them.
    """
    own = jnp.sum(users * positives, axis=-1)
    # Cosines are at most 1, so shifting by 1 / temperature keeps every exponent at or below 0 without a maximum.
    scaled = (jnp.matmul(users, shared.T, precision="highest") - 1) / temperature
    partition = jnp.sum(jnp.exp(scaled - log_correction) * allowed, axis=-1)
    if hard is not None and hard_allowed is not None:
        partition += jnp.sum(jnp.exp((hard - 1) / temperature) * hard_allowed, axis=-1)
    logit = (own - 1) / temperature
    losses = jnp.logaddexp(jnp.log(jnp.maximum(partition, 1e-38)), logit) - logit
    return jnp.sum(losses * weights) / jnp.maximum(jnp.sum(weights), 1)


def normalised(values: Array, config: ContinuousActionConfig) -> Array:
    """A continuous value in [0, 1] (PHOENIX §2.4, §7 norm_config)."""
    scale = config.norm_config.norm_scale
    clipped = jnp.clip(values, 0, scale)
    return jnp.log1p(clipped) / jnp.log1p(scale) if config.norm_config.use_log else clipped / scale


def dropout(key: Array | None, x: Array, rate: float) -> Array:
    """Zero entries with probability ``rate`` and scale the rest; no key or rate 0 leaves x."""
    if key is None or rate == 0:
        return x
    return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0)
