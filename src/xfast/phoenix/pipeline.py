"""The published pipeline end to end (PHOENIX §8): retrieve with one tower, rank with the other, print a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.actions import Vocabulary
from xfast.errors import ArtifactError, ParameterError
from xfast.phoenix.artifacts import Artifacts, Corpus, Tower
from xfast.phoenix.features import CandidateFeatures, Candidates, ContextFeatures, Engagements
from xfast.phoenix.ranker import Ranker, Scores
from xfast.phoenix.retriever import Hits, Retriever
from xfast.phoenix.tower import topic_text

__all__ = ["WEIGHTS", "PipelineResult", "format_table", "run_pipeline", "topic_labels", "weighted_scores"]

F32 = npt.NDArray[np.float32]
#: Action -> weight, added in this order.
WEIGHTS = (("favorite", 1.0), ("reply", 0.5), ("retweet", 0.3), ("dwell", 0.2))
_RULE = 120
_TOPIC_WIDTH = 28
# Column title, width, and the action whose probability it shows.
_COLUMNS = (
    ("Fav", 7, "favorite"),
    ("Reply", 7, "reply"),
    ("RT", 7, "retweet"),
    ("Dwell", 7, "dwell"),
    ("VQV", 7, "vqv"),
)


@dataclass(frozen=True, eq=False)
class PipelineResult:
    """What the pipeline found, in retrieval order, and the final order."""

    user_id: int
    history_items: int
    corpus_size: int
    vocabulary: Vocabulary
    rows: npt.NDArray[np.int64]
    """[K] corpus rows, best retrieval score first"""
    post_ids: npt.NDArray[np.uint64]
    author_ids: npt.NDArray[np.uint64]
    retrieval_scores: F32
    """[K]"""
    scores: Scores
    """K rows"""
    weighted: F32
    """[K]"""
    topics: Sequence[str]
    """K labels, empty where unknown"""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ranked(self) -> npt.NDArray[np.int64]:
        """Positions into the arrays above, best weighted score first; ties by retrieval order."""
        return np.argsort(-self.weighted, kind="stable")


def weighted_scores(probabilities: F32, vocabulary: Vocabulary) -> F32:
    """Sum of :data:`WEIGHTS` times probabilities [K, A], float32, left to right; an action without a column adds 0."""
    total = np.zeros(len(probabilities), np.float32)
    heads = vocabulary.heads(probabilities.shape[1])
    for action, weight in WEIGHTS:
        if action in heads:
            total = total + np.float32(weight) * probabilities[:, heads[action]]
    return total


def topic_labels(corpus: Corpus, rows: npt.NDArray[np.int64]) -> list[str]:
    """Topics of corpus rows as text, empty where the corpus has none."""
    if corpus.topics is None:
        return [""] * len(rows)
    return [topic_text(topic) for topic in corpus.topics[rows]]


def _read_ahead(tower: Tower, posts: Engagements | Hits) -> None:
    tower.read_ahead("item", posts.post_ids)
    tower.read_ahead("author", posts.author_ids)


def run_pipeline(
    artifacts: Artifacts,
    *,
    engagements: Engagements | None = None,
    corpus: Corpus | None = None,
    top_k: int = 200,
    engine: Any = "auto",
    precision: Any = "float32",
    progress: Callable[[str], None] = lambda text: None,
) -> PipelineResult:
    """Retrieve ``top_k`` posts for a viewer and rank them as the published pipeline does.

    The history and candidate lengths come from the retrieval configuration; a candidate's slot is its retrieval rank
    modulo ``candidate_seq_len``; there are no surfaces, timestamps or dwell values.

    Parameters
    ----------
    artifacts
        Both towers; corpus and example sequence where the next two are None.
    engagements, corpus
        The viewer and the posts.
    top_k
        How many posts to retrieve; at most all.
    engine
        What runs the models, as for :class:`~xfast.phoenix.ranker.Ranker`.
    precision
        float32, or bfloat16 as the published pipeline computes.
    progress
        Called with a line of text as each step begins.
    """
    if top_k < 1:
        raise ParameterError(f"top_k is {top_k}, must be at least 1")
    if engagements is None:
        engagements = artifacts.example_sequence
    if corpus is None:
        corpus = artifacts.corpus
    shape = artifacts.retrieval.config
    for tower in (artifacts.retrieval, artifacts.ranker):
        _read_ahead(tower, engagements)
    progress("encoding the viewer")
    retriever = Retriever(artifacts.retrieval, corpus, engine=engine, precision=precision)
    user = retriever.encode(engagements)
    if not np.isfinite(user).all():
        raise _bad_table(artifacts.retrieval, engagements)
    progress(f"searching {len(corpus):,} posts")
    hits = retriever.search(user, top_k)
    progress(f"ranking {len(hits):,} posts")
    _read_ahead(artifacts.ranker, hits)
    lengths = {key: getattr(shape, key) for key in ("history_seq_len", "candidate_seq_len")}
    ranker = Ranker(artifacts.ranker, engine=engine, precision=precision, config_overrides=lengths)
    slots = np.arange(len(hits), dtype=np.int32) % shape.candidate_seq_len
    candidates = Candidates(hits.post_ids, hits.author_ids, slots=slots)
    scores = ranker.score(ranker.encode(engagements), candidates)
    if not np.isfinite(scores.logits).all():
        raise _bad_table(artifacts.ranker, engagements, candidates)
    return PipelineResult(
        user_id=engagements.user_id,
        history_items=len(engagements),
        corpus_size=len(corpus),
        vocabulary=ranker.vocabulary,
        rows=hits.rows,
        post_ids=hits.post_ids,
        author_ids=hits.author_ids,
        retrieval_scores=hits.scores,
        scores=scores,
        weighted=weighted_scores(scores.probabilities, ranker.vocabulary),
        topics=topic_labels(corpus, hits.rows),
    )


def _bad_table(tower: Tower, engagements: Engagements, candidates: Candidates | None = None) -> ArtifactError:
    """Which mapped table brought values that are not finite; loading does not read tables, so a request finds them."""
    context = ContextFeatures.build(tower, engagements, keep="oldest")
    rows = {"user": context.user_embeddings, "item": context.post_embeddings, "author": context.author_embeddings}
    bad = [kind for kind, values in rows.items() if not np.isfinite(values).all()]
    if candidates is not None:
        posts = CandidateFeatures.build(tower, candidates)
        of_posts = {"item": posts.post_embeddings, "author": posts.author_embeddings}
        bad += [kind for kind, values in of_posts.items() if not np.isfinite(values).all()]
    keys = ", ".join(repr(f"{kind}_embeddings") for kind in dict.fromkeys(bad))
    what = f"{keys} hold values" if keys else "the model makes values"
    return ArtifactError(f"{tower.name}/embedding_tables.npz: {what} that are not finite in rows of this request")


def _cells(values: Sequence[tuple[str, int]]) -> str:
    return " ".join(text.ljust(width) for text, width in values)


def format_table(result: PipelineResult, top_k_display: int = 30) -> str:
    """The published pipeline's output, byte for byte: header, one line per displayed post, range of scores.

    A column whose action the model does not predict shows ``-``.
    """
    heads = result.vocabulary.heads(result.scores.probabilities.shape[1])
    lines = [
        "",
        "=" * _RULE,
        f"PIPELINE RESULTS — User {result.user_id}",
        f"History: {result.history_items} items | Corpus: {result.corpus_size} posts",
        f"Retrieved top {len(result)} → Ranked by engagement model",
        "=" * _RULE,
        _cells(
            [("Rank", 5), ("Score", 8), ("Ret", 7), *((t, w) for t, w, _ in _COLUMNS), ("Topics", 30), ("Post URL", 0)]
        ),
        "-" * _RULE,
    ]
    for rank, i in enumerate(result.ranked[:top_k_display], start=1):
        row = result.scores.probabilities[i]
        lines.append(
            _cells(
                [
                    (str(rank), 5),
                    (f"{result.weighted[i]:.4f}", 8),
                    (f"{result.retrieval_scores[i]:.4f}", 7),
                    *((f"{row[heads[a]]:.4f}" if a in heads else "-", width) for _, width, a in _COLUMNS),
                    (result.topics[i][:_TOPIC_WIDTH], 30),
                    (f"https://x.com/a/status/{result.post_ids[i]}", 0),
                ]
            )
        )
    if len(result):
        lines += ["", f"Weighted score range: [{result.weighted.min():.4f}, {result.weighted.max():.4f}]"]
    return "\n".join([*lines, "=" * _RULE]) + "\n"
