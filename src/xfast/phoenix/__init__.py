"""Phoenix: two-tower retrieval and the transformer ranker with candidate isolation.

The names load when they are first used: reading files and hashing ids never import JAX.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "Artifacts": "artifacts",
    "Corpus": "artifacts",
    "EmbeddingTables": "artifacts",
    "Tower": "artifacts",
    "load_artifacts": "artifacts",
    "load_corpus": "artifacts",
    "load_params": "artifacts",
    "load_sequence": "artifacts",
    "save_artifacts": "artifacts",
    "PhoenixConfig": "config",
    "CorpusBuilder": "corpus",
    "ContextCache": "context_cache",
    "dump_context": "context_codec",
    "load_context": "context_codec",
    "Candidates": "features",
    "Engagements": "features",
    "Context": "ranker",
    "Ranker": "ranker",
    "Scores": "ranker",
    "Hits": "retriever",
    "Retriever": "retriever",
}

__all__ = [
    "Artifacts",
    "Candidates",
    "Context",
    "ContextCache",
    "Corpus",
    "CorpusBuilder",
    "EmbeddingTables",
    "Engagements",
    "Hits",
    "PhoenixConfig",
    "Ranker",
    "Retriever",
    "Scores",
    "Tower",
    "dump_context",
    "load_artifacts",
    "load_context",
    "load_corpus",
    "load_params",
    "load_sequence",
    "save_artifacts",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"xfast.phoenix.{_HOME[name]}"), name)
    raise AttributeError(f"module 'xfast.phoenix' has no attribute {name!r}")


if TYPE_CHECKING:
    from xfast.phoenix.artifacts import (
        Artifacts,
        Corpus,
        EmbeddingTables,
        Tower,
        load_artifacts,
        load_corpus,
        load_params,
        load_sequence,
        save_artifacts,
    )
    from xfast.phoenix.config import PhoenixConfig
    from xfast.phoenix.context_cache import ContextCache
    from xfast.phoenix.context_codec import dump_context, load_context
    from xfast.phoenix.corpus import CorpusBuilder
    from xfast.phoenix.features import Candidates, Engagements
    from xfast.phoenix.ranker import Context, Ranker, Scores
    from xfast.phoenix.retriever import Hits, Retriever
