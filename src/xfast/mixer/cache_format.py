"""Cached candidates as bytes: JSON of the candidates, zstd-compressed where that codec is there, else zlib."""

from __future__ import annotations

import hashlib
import json
import zlib

from xfast.errors import DataError
from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.query import ScoredPostsQuery

__all__ = ["cache_key", "decode_posts", "encode_posts"]

_ZSTD_LEVEL = 6
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def cache_key(query: ScoredPostsQuery) -> str:
    """The key of a viewer's cached candidates: viewer, topics, network and video switches (format ours)."""
    topics = ",".join(map(str, sorted(query.topic_ids)))
    scope = f"{topics}|{int(query.in_network_only)}|{int(query.exclude_videos)}"
    return f"xfast:posts:{query.user_id}:{hashlib.blake2b(scope.encode(), digest_size=8).hexdigest()}"


def encode_posts(batch: CandidateBatch) -> bytes:
    """Candidates as compressed JSON, ``served_type`` as its number."""
    plain = json.dumps(batch.to_records(), separators=(",", ":")).encode()
    try:
        import zstandard
    except ImportError:
        return zlib.compress(plain, 6)
    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(plain)


def decode_posts(payload: bytes) -> CandidateBatch:
    """The inverse of :func:`encode_posts`.

    Raises
    ------
    DataError
        Not such bytes, or a value that no enum knows.
    """
    try:
        if payload[:4] == _ZSTD_MAGIC:
            import zstandard

            plain = zstandard.ZstdDecompressor().decompress(payload)
        else:
            plain = zlib.decompress(payload)
        return CandidateBatch.from_records(json.loads(plain))
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"cached posts cannot be read: {type(error).__name__}: {error}") from error
