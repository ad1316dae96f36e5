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

from benchmarks.phoenix_models import FAMILY, candidates, config, engagements, posts, tower, viewer
from xfast.phoenix import Ranker, Retriever, load_artifacts, save_artifacts
from xfast.phoenix.features import CandidateFeatures, ContextFeatures
from xfast.phoenix.hashing import hash_ids


class Hashing:
    """Two hash functions over n ids."""

    params = (512, 100_000)
    param_names = ("ids",)

    def setup(self, count: int) -> None:
        self.ids = np.random.default_rng(0).integers(1, 2**63, count)

    def time_native(self, count: int) -> None:
        hash_ids(self.ids, FAMILY, 1_000_000)

    def time_rival_numpy(self, count: int) -> None:
        out = np.empty((count, 2), np.int32)
        for j in range(2):
            mixed = self.ids * np.int64(FAMILY.scales[j]) + np.int64(FAMILY.biases[j])
            rows = mixed % np.int64(FAMILY.modulus) % np.int64(999_999) + 1
            out[:, j] = np.where(self.ids == 0, 0, rows)


class HashingInPython:
    """The rival as the published code has it: one Python step per id and hash function, 512 ids."""

    def setup(self) -> None:
        self.ids = np.random.default_rng(0).integers(1, 2**63, 512)

    def time_rival_double_loop(self) -> None:
        out = np.zeros((512, 2), np.int32)
        for i, one in enumerate(self.ids.tolist()):
            for j in range(2):
                mixed = (one * FAMILY.scales[j] + FAMILY.biases[j] + 2**63) % 2**64 - 2**63
                out[i, j] = 0 if one == 0 else mixed % FAMILY.modulus % 999_999 + 1


class Rank:
    """From ids to probabilities for one viewer: encode, score against the cache, and both; `PlainJit` is the rival."""

    params = (("native", "xla"), (3, 127), (64, 1_024))
    param_names = ("engine", "history", "candidates")
    timeout = 300.0

    def setup(self, engine: Any, history: int, count: int) -> None:
        self.viewer, self.candidates = engagements(history), posts(count)
        model = tower(config(127))
        self.ranker = Ranker(model, engine=engine)
        self.context = self.ranker.encode(self.viewer)
        self.ranker.score(self.context, self.candidates)
        self.plain = Ranker(model, engine="xla")

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
        self.viewer, self.candidates = engagements(history), posts(count)
        self.ranker = Ranker(tower(config(127)), engine="xla")
        self.ranker.score_uncached(self.viewer, self.candidates)

    def time_rival_uncached(self, history: int, count: int) -> None:
        self.ranker.score_uncached(self.viewer, self.candidates)


class Score:
    """Features to scores against a cached context, for every engine and precision in one run; 127 engagements.

    ``jit full`` is the uncached pass, ``jit cached`` the same split in two (benchmarks/phoenix_rivals.py). ``track``
    compares with the native engine in float32.
    """

    params = (
        ("native float32", "native bfloat16", "native int8", "native int8, int8 keys", "jit cached float32",
         "jit cached bfloat16", "jit cached int8", "jit full float32", "jit full bfloat16"),
        (64, 1_024),
    )  # fmt: skip
    param_names = ("contestant", "candidates")
    timeout = 300.0

    def setup(self, contestant: str, count: int) -> None:
        model = tower(config(127))
        self.ranker = Ranker(model, engine="native")
        self.reference = self.ranker.score(self.ranker.encode(engagements(127)), posts(count)).logits
        some = candidates(model, count)
        kind, precision = contestant.rsplit(" ", 1) if "keys" not in contestant else ("native", "int8 keys")
        if kind == "native":
            from xfast.phoenix.engines.native import NativeRanker

            narrow: Any = "int8" if precision == "int8 keys" else None
            engine = NativeRanker(model, "int8" if narrow else precision, kv_precision=narrow)
            context = engine.encode(viewer(model))
            self.call = lambda: engine.score(context, some)
        else:
            import jax.numpy as jnp  # here, so that the peak memory of opening files is not that of JAX

            from benchmarks.phoenix_rivals import Rivals

            rivals = Rivals(model, viewer(model))
            dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
            if precision == "int8":
                self.call = rivals.int8(some)
            else:
                self.call = rivals.plain(some, dtype) if kind == "jit full" else rivals.cached(some, dtype)
        self.call()

    def time_score(self, contestant: str, count: int) -> None:
        self.call()

    def track_top10_overlap(self, contestant: str, count: int) -> float:
        """Mean share of common posts among the ten best, over the actions."""
        logits = np.asarray(self.call()[0]).astype(np.float32).reshape(self.reference.shape)
        mine, exact = (np.argsort(-x, axis=0)[:10] for x in (logits, self.reference))
        return float(np.mean([len(np.intersect1d(mine[:, a], exact[:, a])) / 10 for a in range(exact.shape[1])]))


class Features:
    """Hash, gather and pack, without the model."""

    def setup(self) -> None:
        self.tower = tower(config(127))
        self.viewer, self.candidates = engagements(127), posts(1_024)

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
        self.retriever = Retriever(tower(config(127), "retrieval"), engine=engine)
        self.viewer = engagements(history)
        self.retriever.encode(self.viewer)

    def time_encode(self, engine: str, history: int) -> None:
        self.retriever.encode(self.viewer)


class Open:
    """Open both models and gather one request's rows; tables of 3 x 20,000 rows each."""

    timeout = 300.0

    def setup_cache(self) -> str:
        folder = tempfile.mkdtemp(prefix="xfast-bench-")
        save_artifacts(folder, ranker=tower(config(127)), retrieval=tower(config(127), "retrieval"))
        shutil.make_archive(folder + "/packed", "zip", folder)
        return folder

    def time_directory(self, folder: str) -> None:
        self._first_request(load_artifacts(folder))

    def peakmem_directory(self, folder: str) -> None:
        self._first_request(load_artifacts(folder))

    def time_deflated_zip(self, folder: str) -> None:
        self._first_request(load_artifacts(folder + "/packed.zip"))

    def time_rival_np_load(self, folder: str) -> None:
        for name in ("ranker", "retrieval"):
            with np.load(Path(folder) / name / "embedding_tables.npz") as file:
                dict(file)

    def peakmem_rival_np_load(self, folder: str) -> None:
        self.time_rival_np_load(folder)

    @staticmethod
    def _first_request(artifacts: Any) -> None:
        ContextFeatures.build(artifacts.ranker, engagements(127))
