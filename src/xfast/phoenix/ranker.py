"""The ranker: encode a viewer once, score any candidates against the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from xfast.actions import Vocabulary
from xfast.errors import ParameterError
from xfast.phoenix.artifacts import Tower
from xfast.phoenix.config import PhoenixConfig
from xfast.phoenix.context_key import InputDigest, model_version
from xfast.phoenix.engines import EngineScores, Precision, ranker_engine
from xfast.phoenix.engines.native import NativeRanker
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
    history_tokens: int
    """Those of the history alone."""
    nbytes: int
    """Memory of keys and values."""
    inputs: bytes = field(repr=False)
    """Digest of what was encoded (:class:`~xfast.phoenix.context_key.InputDigest`)."""
    exact: bool
    """False where keys and values went through a lossy store."""
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
    kv_precision : {"float32", "bfloat16", "int8"}, optional
        What encoded contexts hold (native engine): by default what attention computes in, float32 or, for the two
        smaller precisions, bfloat16. int8 keeps a scale per layer, key head and token: a quarter of float32's memory,
        and an error of at most max|x| / 253 per number (docs/context-cache.md).
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
        kv_precision: Literal["float32", "bfloat16", "int8"] | None = None,
        config_overrides: Mapping[str, Any] | None = None,
        deterministic: bool = False,
    ) -> None:
        if tower.name != "ranker":
            raise ParameterError(f"tower is the {tower.name} model, must be the ranker")
        self._tower = tower.override(config_overrides)
        self._engine = ranker_engine(
            self._tower, engine, precision, deterministic=deterministic, kv_precision=kv_precision
        )
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
        return self.encode_digested(engagements, InputDigest(self.config, engagements, keep), keep=keep)

    def encode_digested(self, engagements: Engagements, digest: InputDigest, *, keep: Keep = "oldest") -> Context:
        """:meth:`encode` for a caller that has the digest of these very engagements already, such as a cache."""
        features = ContextFeatures.build(self._tower, engagements, keep=keep)
        everything = None
        if features.num_valid == 0:
            everything = ContextFeatures.build(self._tower, engagements, keep=keep, compact=False)
        return self._context(
            self._engine.encode(features), digest.whole, features.num_valid, int(features.valid.sum()), everything
        )

    def _context(
        self,
        encoded: Any,
        inputs: bytes,
        num_valid: int,
        history_tokens: int,
        everything: ContextFeatures | None = None,
        *,
        exact: bool = True,
    ) -> Context:
        size = self._engine.context_bytes(encoded)
        return Context(encoded, num_valid, history_tokens, size, inputs, exact, self, everything)

    @property
    def can_append(self) -> bool:
        """Whether :meth:`append` works: causal attention on the native engine."""
        return isinstance(self._engine, NativeRanker) and self.config.context_attention == "causal"

    def append(self, context: Context, engagements: Engagements, *, keep: Keep = "oldest") -> Context:
        """Encode a viewer of whom all but the last engagements are encoded already; the bits of :meth:`encode`.

        Exact because a causal token never sees later ones. That holds while the old tokens keep their RoPE positions:
        by default until the model's history is full, and under right-anchored RoPE only for a viewer who had no
        history (docs/context-cache.md).

        Parameters
        ----------
        context
            The viewer before, as :meth:`encode` or this method returned it.
        engagements, keep
            The viewer now, the new engagements at the end.

        Raises
        ------
        ParameterError
            The engagements do not begin with what the context encodes, positions included; or the context is another
            ranker's, or came out of a lossy store.
        NotImplementedError
            The engine or the model's attention has no append; see :attr:`can_append`.
        """
        digest = InputDigest(self.config, engagements, keep)
        if digest.whole == context.inputs:
            self._check_owner(context)
            return context
        prefixes = digest.prefixes(len(digest) - min(context.history_tokens, len(digest)))
        if context.history_tokens > len(digest) or prefixes[-1] != context.inputs:
            raise ParameterError(
                "engagements do not begin with what the context encodes, must be the same viewer with engagements "
                "added at the end that move no other position"
            )
        return self.append_digested(context, engagements, digest, keep=keep)

    def append_digested(
        self, context: Context, engagements: Engagements, digest: InputDigest, *, keep: Keep = "oldest"
    ) -> Context:
        """:meth:`append` for a caller that has compared the digests already."""
        self._check_owner(context)
        if not context.exact:
            raise ParameterError("the context came out of a lossy store, must be exact to append to it")
        if not self.can_append or not isinstance(self._engine, NativeRanker):
            raise NotImplementedError(
                f"append: engine {self.engine!r} with context_attention={self.config.context_attention!r} cannot, it "
                "takes engine='native' and causal attention"
            )
        new = len(digest) - context.history_tokens
        if new == 0:
            return context
        # Only the new tokens are hashed and gathered: the slots before them count as empty.
        history = engagements.cut(self.config.history_seq_len, keep)
        posts = history.post_ids.copy()
        posts[: digest.slots[-new]] = 0
        tokens = ContextFeatures.build(self._tower, replace(history, post_ids=posts))
        positions = np.concatenate([tokens.positions[:1], digest.positions[-new:]])
        encoded = self._engine.append(context.encoded, replace(tokens, positions=positions))
        return self._context(encoded, digest.whole, context.num_valid + new, len(digest))

    @cached_property
    def model_version(self) -> bytes:
        """Digest of all that a context's bits depend on besides the viewer (32 bytes); computed when first asked."""
        return model_version(
            self._tower, self._engine.identity, self._engine.precision, deterministic=self.deterministic
        )

    @property
    def kv_precision(self) -> Precision:
        """What encoded contexts hold; native engine only."""
        return self.native_engine("kv_precision").kv_precision

    def keys_values(self, context: Context) -> tuple[F32, F32]:
        """Keys (rotated) and values of a context, each [layers, kv_heads, tokens, key_size]; native engine only."""
        self._check_owner(context)
        return self.native_engine("keys_values").keys_values(context.encoded)

    def restore(self, keys: F32, values: F32, *, inputs: bytes, history_tokens: int, exact: bool) -> Context:
        """The inverse of :meth:`keys_values`, for stores of contexts; native engine only.

        ``inputs``, ``history_tokens`` and ``exact`` are the context's fields.
        """
        encoded = self.native_engine("restore").restore(keys, values)
        return self._context(encoded, inputs, encoded.tokens, history_tokens, exact=exact)

    def native_engine(self, what: str) -> NativeRanker:
        """The native engine, for ``what`` needs it.

        Raises
        ------
        NotImplementedError
            This ranker's engine is another one.
        """
        if not isinstance(self._engine, NativeRanker):
            raise NotImplementedError(f"{what}: engine {self.engine!r} keeps contexts to itself, it takes 'native'")
        return self._engine

    def _check_owner(self, context: Context) -> None:
        if context._owner is not self:
            raise ParameterError("the context was encoded by another ranker, must be this one's")

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
            self._check_owner(context)
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
