"""The ranker: encode a viewer once, score any candidates against the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from xfast.actions import Vocabulary
from xfast.errors import ParameterError
from xfast.phoenix.artifacts import Tower
from xfast.phoenix.config import PhoenixConfig
from xfast.phoenix.engines import EngineScores, ranker_engine
from xfast.phoenix.features import CandidateFeatures, Candidates, ContextFeatures, Engagements, Keep

__all__ = ["Context", "Ranker", "Scores"]

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Scores:
    """Predictions for a list of candidates, row by row."""

    logits: F32
    """[C, A]"""
    probabilities: F32
    """[C, A], what the model's :class:`~xfast.actions.Vocabulary` numbers"""
    continuous: F32
    """[C, n_continuous] in (0, 1), normalised units"""

    def __len__(self) -> int:
        return len(self.logits)


@dataclass(frozen=True, eq=False)
class Context:
    """A viewer as the ranker remembers them: keys and values per layer. Belongs to the ranker that made it."""

    encoded: Any = field(repr=False)
    """The engine's own form."""
    num_valid: int
    """Tokens that candidates see: the user and the non-empty history slots."""
    nbytes: int
    """Memory of keys and values."""
    _owner: object = field(repr=False)
    _everything: ContextFeatures | None = field(default=None, repr=False)


class Ranker:
    """Predict what a viewer would do with candidate posts.

    Parameters
    ----------
    tower
        ``load_artifacts(...).ranker``.
    engine : {"auto", "native", "xla", "pallas"}
        What runs the model; ``auto`` takes the best one here.
    precision : {"float32", "bfloat16", "int8"}
        float32 is the parity target; bfloat16 follows the published casts (PHOENIX §6).
    config_overrides
        Changes to the configuration, for example ``{"right_anchored_rope": True}``.
    deterministic
        Give a candidate bit-equal scores in any batch, place and company (with default RoPE: in its slot), at the price
        of padding everything to one size.

    Raises
    ------
    ParameterError
        An unknown engine or precision, or a tower that is no ranker.
    ArtifactError
        The overrides ask for other parameter shapes.
    NotImplementedError
        The engine or precision cannot run here; the message says why.
    """

    def __init__(
        self,
        tower: Tower,
        *,
        engine: Literal["auto", "native", "xla", "pallas"] = "auto",
        precision: Literal["float32", "bfloat16", "int8"] = "float32",
        config_overrides: Mapping[str, Any] | None = None,
        deterministic: bool = False,
    ) -> None:
        if tower.name != "ranker":
            raise ParameterError(f"tower is the {tower.name} model, must be the ranker")
        self._tower = tower.override(config_overrides)
        self._engine = ranker_engine(self._tower, engine, precision, deterministic=deterministic)
        self.deterministic = deterministic

    @property
    def config(self) -> PhoenixConfig:
        """The configuration, overrides included."""
        return self._tower.config

    @property
    def engine(self) -> str:
        """Name of the engine that runs."""
        return self._engine.name

    @property
    def precision(self) -> str:
        """What it computes in."""
        return self._engine.precision

    @property
    def vocabulary(self) -> Vocabulary:
        """What the columns of the predictions mean."""
        return self.config.vocabulary

    def encode(self, engagements: Engagements, *, keep: Keep = "oldest") -> Context:
        """Encode a viewer: keys and values of the valid tokens, which :meth:`score` reuses for any candidates.

        Parameters
        ----------
        engagements
            The viewer and their history. One longer than the model's ``history_seq_len`` is cut.
        keep
            ``oldest`` drops the end of the list, as the published pipeline does; ``newest`` drops its start.
        """
        features = ContextFeatures.build(self._tower, engagements, keep=keep)
        encoded = self._engine.encode(features)
        everything = None
        if features.num_valid == 0:
            everything = ContextFeatures.build(self._tower, engagements, keep=keep, compact=False)
        return Context(encoded, features.num_valid, self._engine.context_bytes(encoded), self, everything)

    def score(self, context: Context, candidates: Candidates) -> Scores:
        """Score candidates for an encoded viewer.

        An empty slot (post id 0) gets the output of a token that sees the context only, which means nothing.
        """
        return self.score_batch([context], [candidates])[0]

    def score_batch(self, contexts: Sequence[Context], candidate_lists: Sequence[Candidates]) -> list[Scores]:
        """Score one list per viewer, any lengths; the same scores as one :meth:`score` each, but for last bits."""
        if len(contexts) != len(candidate_lists):
            raise ParameterError(f"candidate_lists has {len(candidate_lists)} entries, contexts has {len(contexts)}")
        results: list[EngineScores | None] = [None] * len(contexts)
        batch: list[tuple[int, CandidateFeatures]] = []
        for i, (context, candidates) in enumerate(zip(contexts, candidate_lists, strict=True)):
            if context._owner is not self:
                raise ParameterError("the context was encoded by another ranker, must be this one's")
            features = CandidateFeatures.build(self._tower, candidates)
            if len(features) == 0:
                results[i] = self._nothing()
            elif context._everything is not None and not features.valid.all():
                # The one case that a cache cannot answer: an empty slot with nothing to see averages over all tokens.
                results[i] = self._engine.score_full(context._everything, features)
            else:
                batch.append((i, features))
        if len(batch) == 1:
            i, features = batch[0]
            results[i] = self._engine.score(contexts[i].encoded, features)
        elif batch:
            scores = self._engine.score_batch([contexts[i].encoded for i, _ in batch], [f for _, f in batch])
            for (i, _), score in zip(batch, scores, strict=True):
                results[i] = score
        return [Scores(*result) for result in results if result is not None]

    def _nothing(self) -> EngineScores:
        actions, continuous = self.config.num_actions, self.config.num_continuous_actions
        return EngineScores(
            np.zeros((0, actions), np.float32),
            np.zeros((0, actions), np.float32),
            np.zeros((0, continuous), np.float32),
        )

    def score_uncached(self, engagements: Engagements, candidates: Candidates, *, keep: Keep = "oldest") -> Scores:
        """Score in one full pass over viewer and candidates, as the published model does: the cache's yardstick."""
        context = ContextFeatures.build(self._tower, engagements, keep=keep, compact=False)
        features = CandidateFeatures.build(self._tower, candidates)
        return Scores(*(self._engine.score_full(context, features) if len(features) else self._nothing()))

    def warmup(self, candidate_counts: Sequence[int] = (64, 256, 1024), *, batch_sizes: Sequence[int] = (1,)) -> None:
        """Compile ahead, so that no request with up to these counts waits for a compiler.

        Covers every history length; list the candidate counts and the numbers of viewers per :meth:`score_batch` that
        the service will use.
        """
        for name, values in (("candidate_counts", candidate_counts), ("batch_sizes", batch_sizes)):
            if any(value < 1 for value in values):
                raise ParameterError(f"{name} is {tuple(values)}, must hold positive integers")
        self._engine.warmup(candidate_counts, batch_sizes)
