"""Phoenix: hashing, the context cache, the towers, opening files. Rivals: NumPy and Python hashing, `np.load`, and a
plain `jax.jit` of the uncached full forward (what one gets from the published model by jitting it).

The model has the published mini's sizes (PHOENIX §7) and random weights; time does not depend on them.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from xfast.phoenix import (
    Candidates,
    EmbeddingTables,
    Engagements,
    PhoenixConfig,
    Ranker,
    Retriever,
    Tower,
    load_artifacts,
    save_artifacts,
)
from xfast.phoenix.config import HashFamily
from xfast.phoenix.features import CandidateFeatures, ContextFeatures
from xfast.phoenix.hashing import hash_ids
from xfast.phoenix.layout import TowerName, param_shapes

_FAMILY = HashFamily((196742702, 1852108266), (1935840681, 167407236), 2859568897)
_ROWS = 20_000


def mini_config(**changes: Any) -> PhoenixConfig:
    """The published mini's sizes."""
    config = PhoenixConfig(
        emb_size=128, key_size=32, num_heads=4, num_layers=4, num_actions=19, history_seq_len=127,
        candidate_seq_len=64, num_user_hashes=2, num_item_hashes=2, num_author_hashes=2, user_vocab_size=_ROWS,
        item_vocab_size=_ROWS, author_vocab_size=_ROWS, user_hash=_FAMILY, item_hash=_FAMILY, author_hash=_FAMILY,
    )  # fmt: skip
    return config.replace(**changes) if changes else config


def random_tower(name: TowerName) -> Tower:
    """A tower with random weights."""
    rng = np.random.default_rng(0)
    config = mini_config()
    params = {
        key: (np.ones(shape) if key.endswith("scale") else rng.normal(size=shape) / np.sqrt(shape[0])).astype(
            np.float32
        )
        for key, shape in param_shapes(config, name).items()
    }
    tables = [rng.normal(size=(_ROWS, 128)).astype(np.float32) for _ in range(3)]
    return Tower(name, config, params, EmbeddingTables(*tables))


def viewer(history: int) -> Engagements:
    """A viewer with ``history`` engagements."""
    rng = np.random.default_rng(1)
    ids = rng.integers(1, 2**62, (2, history))
    return Engagements(7, ids[0], ids[1], (rng.random((history, 19)) < 0.2).astype(np.float32))


def candidates(count: int) -> Candidates:
    """``count`` posts."""
    ids = np.random.default_rng(2).integers(1, 2**62, (2, count))
    return Candidates(ids[0], ids[1])


class Hashing:
    """Two hash functions over n ids."""

    params = (512, 100_000)
    param_names = ("ids",)

    def setup(self, count: int) -> None:
        self.ids = np.random.default_rng(0).integers(1, 2**63, count)

    def time_native(self, count: int) -> None:
        hash_ids(self.ids, _FAMILY, 1_000_000)

    def time_rival_numpy(self, count: int) -> None:
        out = np.empty((count, 2), np.int32)
        for j in range(2):
            mixed = self.ids * np.int64(_FAMILY.scales[j]) + np.int64(_FAMILY.biases[j])
            rows = mixed % np.int64(_FAMILY.modulus) % np.int64(999_999) + 1
            out[:, j] = np.where(self.ids == 0, 0, rows)


class HashingInPython:
    """The rival as the published code has it: one Python step per id and hash function, 512 ids."""

    def setup(self) -> None:
        self.ids = np.random.default_rng(0).integers(1, 2**63, 512)

    def time_rival_double_loop(self) -> None:
        out = np.zeros((512, 2), np.int32)
        for i, one in enumerate(self.ids.tolist()):
            for j in range(2):
                mixed = (one * _FAMILY.scales[j] + _FAMILY.biases[j] + 2**63) % 2**64 - 2**63
                out[i, j] = 0 if one == 0 else mixed % _FAMILY.modulus % 999_999 + 1


class Rank:
    """From ids to probabilities for one viewer: encode, score against the cache, and both; `PlainJit` is the rival."""

    params = (("native", "xla"), (3, 127), (64, 1_024))
    param_names = ("engine", "history", "candidates")
    timeout = 300.0

    def setup(self, engine: Any, history: int, count: int) -> None:
        self.viewer, self.candidates = viewer(history), candidates(count)
        tower = random_tower("ranker")
        self.ranker = Ranker(tower, engine=engine)
        self.context = self.ranker.encode(self.viewer)
        self.ranker.score(self.context, self.candidates)
        self.plain = Ranker(tower, engine="xla")

    def time_encode(self, engine: str, history: int, count: int) -> None:
        context = self.ranker.encode(self.viewer)
        if engine == "xla":
            import jax  # here, so that the peak memory of opening files is not that of JAX

            jax.block_until_ready(context.encoded)

    def time_score(self, engine: str, history: int, count: int) -> None:
        self.ranker.score(self.context, self.candidates)

    def time_encode_and_score(self, engine: str, history: int, count: int) -> None:
        self.ranker.score(self.ranker.encode(self.viewer), self.candidates)

    def track_largest_difference_to_uncached(self, engine: str, history: int, count: int) -> float:
        cached = self.ranker.score(self.context, self.candidates).probabilities
        full = self.plain.score_uncached(self.viewer, self.candidates).probabilities
        return float(np.abs(cached - full).max())

    def track_context_bytes(self, engine: str, history: int, count: int) -> int:
        return self.context.nbytes


class PlainJit:
    """The rival of `Rank`: a plain `jax.jit` of the full forward over all 1 + 127 + C slots, features included."""

    params = ((3, 127), (64, 1_024))
    param_names = ("history", "candidates")
    timeout = 300.0

    def setup(self, history: int, count: int) -> None:
        self.viewer, self.candidates = viewer(history), candidates(count)
        self.ranker = Ranker(random_tower("ranker"), engine="xla")
        self.ranker.score_uncached(self.viewer, self.candidates)

    def time_rival_uncached(self, history: int, count: int) -> None:
        self.ranker.score_uncached(self.viewer, self.candidates)


class Features:
    """Hash, gather and pack, without the model."""

    def setup(self) -> None:
        self.tower = random_tower("ranker")
        self.viewer, self.candidates = viewer(127), candidates(1_024)

    def time_context(self) -> None:
        ContextFeatures.build(self.tower, self.viewer)

    def time_candidates(self) -> None:
        CandidateFeatures.build(self.tower, self.candidates)


class UserTower:
    """The retrieval user vector."""

    params = (("native", "xla"), (3, 127))
    param_names = ("engine", "history")
    timeout = 300.0

    def setup(self, engine: Any, history: int) -> None:
        self.retriever = Retriever(random_tower("retrieval"), engine=engine)
        self.viewer = viewer(history)
        self.retriever.encode(self.viewer)

    def time_encode(self, engine: str, history: int) -> None:
        self.retriever.encode(self.viewer)


class Open:
    """Open both models and gather one request's rows; tables of 3 x 20,000 rows each."""

    timeout = 300.0

    def setup_cache(self) -> str:
        folder = tempfile.mkdtemp(prefix="xfast-bench-")
        save_artifacts(folder, ranker=random_tower("ranker"), retrieval=random_tower("retrieval"))
        shutil.make_archive(folder + "/packed", "zip", folder)
        return folder

    def time_directory(self, folder: str) -> None:
        self._first_request(load_artifacts(folder))

    def peakmem_directory(self, folder: str) -> None:
        self._first_request(load_artifacts(folder))

    def time_deflated_zip(self, folder: str) -> None:
        self._first_request(load_artifacts(folder + "/packed.zip"))

    def time_rival_np_load(self, folder: str) -> None:
        for tower in ("ranker", "retrieval"):
            with np.load(Path(folder) / tower / "embedding_tables.npz") as file:
                dict(file)

    def peakmem_rival_np_load(self, folder: str) -> None:
        self.time_rival_np_load(folder)

    @staticmethod
    def _first_request(artifacts: Any) -> None:
        ContextFeatures.build(artifacts.ranker, viewer(127))
