"""Model files in the published layout (PHOENIX §7): load from a directory or the zip, and save.

Embedding tables and corpus vectors stay on disk, memory-mapped, wherever the files are uncompressed: a request touches
only its own rows, and several processes share one copy.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from xfast.errors import ArtifactError, ConfigurationError, ParameterError
from xfast.ids import as_uint64
from xfast.phoenix.config import PhoenixConfig
from xfast.phoenix.features import Engagements
from xfast.phoenix.layout import LOG_TEMPERATURE, TowerName, param_shapes
from xfast.phoenix.npz import Region, as_float32, float_view, read_npz, write_npz
from xfast.phoenix.stored import Int8Matrix, StoredParams, stored_arrays, take_int8
from xfast.phoenix.tower import Corpus, EmbeddingTables, Tower, check_corpus, check_params, topic_text

__all__ = [
    "Artifacts",
    "Corpus",
    "EmbeddingTables",
    "Tower",
    "load_artifacts",
    "load_corpus",
    "load_params",
    "load_sequence",
    "save_artifacts",
]

Array = npt.NDArray[Any]
F32 = npt.NDArray[np.float32]
TOWERS: tuple[TowerName, ...] = ("ranker", "retrieval")
CORPUS_FILE = "sports_corpus.npz"
SEQUENCE_FILE = "example_sequence.json"


@dataclass(frozen=True, eq=False)
class Artifacts:
    """What a folder or zip of model files holds. A part that is not there raises :class:`ArtifactError` when read."""

    source: str
    parts: Mapping[str, Any] = field(repr=False)

    def _part(self, name: str, file: str) -> Any:
        if name not in self.parts:
            raise ArtifactError(f"{file}: missing in {self.source}")
        return self.parts[name]

    @property
    def ranker(self) -> Tower:
        """The ranking model."""
        return cast(Tower, self._part("ranker", "ranker/config.json"))

    @property
    def retrieval(self) -> Tower:
        """The two-tower retrieval model."""
        return cast(Tower, self._part("retrieval", "retrieval/config.json"))

    @property
    def corpus(self) -> Corpus:
        """Posts with their retrieval vectors."""
        return cast(Corpus, self._part("corpus", CORPUS_FILE))

    @property
    def example_sequence(self) -> Engagements:
        """The example viewer; action indices beyond the retrieval model's ``num_actions`` are dropped."""
        return cast(Engagements, self._part("example_sequence", SEQUENCE_FILE))

    def __contains__(self, part: str) -> bool:
        return part in self.parts


# --- loading ---------------------------------------------------------------------------------------------------------


class _Folder:
    """Files below the artifact root, in a directory or in a zip."""

    def __init__(self, path: Path, files: ExitStack) -> None:
        self.path = path
        self._open_files = files
        self._outer: Region | None = None
        self._archive: zipfile.ZipFile | None = None
        self._unpacked: dict[str, Region] = {}
        if path.is_dir():
            # Three levels: an unpacked zip adds a folder or two around the published ones.
            found = [f for depth in ("*", "*/*", "*/*/*", "*/*/*/*") for f in path.glob(depth) if f.is_file()]
            names = {f.relative_to(path).as_posix(): f for f in found}
            self._files: dict[str, Any] = self._below_root(names)
        elif path.exists():
            self._outer = Region.of_file(path, path.name, files)
            self._archive = files.enter_context(self._outer.zip())
            infos = {i.filename: i for i in self._archive.infolist() if not i.filename.endswith("/")}
            self._files = self._below_root(infos)
        else:
            raise ArtifactError(f"{path}: no such file or directory")

    def _below_root(self, files: Mapping[str, Any]) -> dict[str, Any]:
        """The files with the outer folder (any depth) taken off; the shallowest one that holds a tower wins."""
        roots = {
            PurePosixPath(name).parent.parent
            for name in files
            if name.endswith(tuple(f"{tower}/config.json" for tower in TOWERS))
            and PurePosixPath(name).parent.name in TOWERS
            and not name.startswith("__MACOSX/")
        }
        if not roots:
            raise ArtifactError(f"{self.path}: holds neither ranker/config.json nor retrieval/config.json")
        depth = min(len(root.parts) for root in roots)
        shallowest = sorted(root for root in roots if len(root.parts) == depth)
        if len(shallowest) > 1:
            raise ArtifactError(f"{self.path}: holds several models ({', '.join(map(str, shallowest))}); name one")
        root = shallowest[0]
        below = {PurePosixPath(name): value for name, value in files.items()}
        return {p.relative_to(root).as_posix(): value for p, value in below.items() if p.is_relative_to(root)}

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def region(self, name: str) -> Region:
        if name not in self._files:
            raise ArtifactError(f"{name}: missing in {self.path}")
        if self._archive is None or self._outer is None:
            return Region.of_file(self._files[name], name, self._open_files)
        if name in self._unpacked:
            return self._unpacked[name]
        return self._outer.member(self._archive, self._files[name], name)

    def unpack(self, names: Iterable[str]) -> None:
        """Unpack what is compressed of these files, all at the same time."""
        if self._archive is not None:
            packed = [n for n in names if n in self and self._files[n].compress_type != zipfile.ZIP_STORED]
            with ThreadPoolExecutor() as pool:
                self._unpacked |= zip(packed, pool.map(self.region, packed), strict=True)


def load_artifacts(path: str | Path, *, config_overrides: Mapping[str, Any] | None = None) -> Artifacts:
    """Load model files in the published layout.

    Parameters
    ----------
    path
        The directory, or the zip; folders around ``ranker/`` and ``retrieval/`` are looked through. At least one of the
        two must be there; corpus and example sequence may be missing.
    config_overrides
        Changes to both configurations before shapes are checked (:meth:`PhoenixConfig.replace`).

    Raises
    ------
    ArtifactError
        A file is missing, malformed or of the wrong shape; the message names the file and the key.
    """
    path = Path(path)
    with ExitStack() as files:
        return Artifacts(str(path), _load_parts(_Folder(path, files), config_overrides))


def _load_parts(folder: _Folder, config_overrides: Mapping[str, Any] | None) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    folder.unpack([*(f"{tower}/embedding_tables.npz" for tower in TOWERS), CORPUS_FILE])
    for tower in TOWERS:
        if f"{tower}/config.json" in folder:
            parts[tower] = _load_tower(folder, tower, config_overrides)
    if CORPUS_FILE in folder:
        parts["corpus"] = _read_corpus(folder.region(CORPUS_FILE))
        if "retrieval" in parts:
            check_corpus(parts["corpus"], parts["retrieval"], CORPUS_FILE)
    if SEQUENCE_FILE in folder:
        config = (parts.get("retrieval") or parts["ranker"]).config
        parts["example_sequence"] = _read_sequence(folder.region(SEQUENCE_FILE), config.num_actions)
    return parts


def _load_tower(folder: _Folder, name: TowerName, overrides: Mapping[str, Any] | None) -> Tower:
    file = f"{name}/config.json"
    try:
        config = PhoenixConfig.from_json(folder.region(file).read())
    except (ConfigurationError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{file}: {error}") from error
    if overrides:
        config = config.replace(**overrides)
    file = f"{name}/model_params.npz"
    params = _read_params(folder.region(file), param_shapes(config, name))
    file = f"{name}/embedding_tables.npz"
    arrays = _unwrap(read_npz(folder.region(file), mapped="rows"), ("user_embeddings", "item_embeddings"))
    tables = {}
    for kind in ("user", "item", "author"):
        key = f"{kind}_embeddings"
        if key not in arrays:
            raise ArtifactError(f"{file}: {key!r} is missing")
        label = f"{file}: {key!r}"
        tables[kind] = take_int8(arrays, key, label) or float_view(arrays[key], label)
    return Tower(name, config, params, EmbeddingTables(**tables))


def load_params(path: str | Path, config: PhoenixConfig, tower: TowerName) -> Mapping[str, F32]:
    """Dense parameters of a tower from a ``model_params.npz``, as float32 by published key."""
    file = Path(path)
    with ExitStack() as files:
        params = _read_params(Region.of_file(file, file.name, files), param_shapes(config, tower))
    check_params(params, config, tower, file.name)
    return params


def _read_params(region: Region, shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, F32]:
    arrays = _unwrap(read_npz(region), tuple(shapes))
    stored: dict[str, Array | Int8Matrix] = {}
    for key in (*shapes, LOG_TEMPERATURE):
        if key in arrays:
            label = f"{region.name}: {key!r}"
            stored[key] = take_int8(arrays, key, label) or float_view(arrays[key], label)
    if any(isinstance(value, Int8Matrix) for value in stored.values()):
        return StoredParams(stored)
    params = {key: as_float32(np.asarray(value)) for key, value in stored.items()}
    for key, value in params.items():
        if not np.isfinite(value).all():
            raise ArtifactError(f"{region.name}: {key!r} holds values that are not finite")
    return params


def _unwrap(arrays: dict[str, Array], keys: tuple[str, ...]) -> dict[str, Array]:
    """Take off what a checkpoint writer may have put around the published keys: a pickled dict, a common prefix."""
    flat: dict[str, Array] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, np.ndarray) and value.dtype == object and value.shape == ():
            value = value.item()
        if isinstance(value, Mapping):
            for key, item in value.items():
                walk(f"{prefix}/{key}" if prefix else str(key), item)
        elif isinstance(value, (np.ndarray, np.generic)):
            flat[prefix] = np.asarray(value)

    for name, array in arrays.items():
        walk(name, array)
    if not keys or keys[0] in flat:
        return flat
    wrappers = [name.removesuffix(keys[0]) for name in flat if name.endswith("/" + keys[0])]
    if len(wrappers) != 1:
        return flat
    return {name.removeprefix(wrappers[0]): array for name, array in flat.items() if name.startswith(wrappers[0])}


def load_corpus(path: str | Path) -> Corpus:
    """Load a corpus file (``post_ids``, ``author_ids``, ``candidate_representations``, optional topics)."""
    file = Path(path)
    with ExitStack() as files:
        return _read_corpus(Region.of_file(file, file.name, files))


def _read_corpus(region: Region) -> Corpus:
    arrays = _unwrap(read_npz(region, mapped="whole"), ("post_ids", "author_ids"))
    for key in ("post_ids", "author_ids", "candidate_representations"):
        if key not in arrays:
            raise ArtifactError(f"{region.name}: {key!r} is missing")
    ids = {}
    for key in ("post_ids", "author_ids"):
        try:
            ids[key] = as_uint64(arrays[key], name=f"{region.name}: {key!r}")
        except ParameterError as error:
            raise ArtifactError(str(error)) from error
        if ids[key].ndim != 1:
            raise ArtifactError(f"{region.name}: {key!r} has shape {ids[key].shape}, must be one-dimensional")
    key = "candidate_representations"
    label = f"{region.name}: {key!r}"
    vectors = take_int8(arrays, key, label) or float_view(arrays[key], label)
    size = len(ids["post_ids"])
    if vectors.ndim != 2:
        raise ArtifactError(f"{region.name}: {key!r} has shape {vectors.shape}, must be ({size}, emb_size)")
    for name in ("author_ids", key, "topics", "topic_ids"):
        if name in arrays and (arrays[name].ndim == 0 or len(arrays[name]) != size):
            raise ArtifactError(f"{region.name}: {name!r} has shape {arrays[name].shape}, post_ids has {size} rows")
    topic_ids = arrays.get("topic_ids")
    if topic_ids is not None and topic_ids.dtype.kind not in "iu":
        raise ArtifactError(f"{region.name}: 'topic_ids' has dtype {topic_ids.dtype}, must be an integer dtype")
    return Corpus(
        ids["post_ids"],
        ids["author_ids"],
        vectors,
        topics=arrays.get("topics"),
        topic_ids=None if topic_ids is None else topic_ids.astype(np.int64, copy=False),
        name=region.name,
    )


def load_sequence(path: str | Path, num_actions: int) -> Engagements:
    """Load an ``example_sequence.json``; action indices >= ``num_actions`` are dropped (PHOENIX §7)."""
    file = Path(path)
    with ExitStack() as files:
        return _read_sequence(Region.of_file(file, file.name, files), num_actions)


def _read_sequence(region: Region, num_actions: int) -> Engagements:
    def bad(where: str, value: object, allowed: str) -> ArtifactError:
        shown = json.dumps(value)
        return ArtifactError(f"{region.name}: {where} is {shown[:60]}, must be {allowed}")

    def read_id(where: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**64:
            raise bad(where, value, "a 64-bit integer")
        return value

    try:
        document = json.loads(region.read())
    except ValueError as error:
        raise ArtifactError(f"{region.name}: not valid JSON ({error})") from error
    except RecursionError as error:
        raise ArtifactError(f"{region.name}: not valid JSON (nested too deeply)") from error
    if not isinstance(document, dict):
        raise bad("the document", document, "an object with user_id and history")
    for key in ("user_id", "history"):
        if key not in document:
            raise ArtifactError(f"{region.name}: {key!r} is missing")
    history = document["history"]
    if not isinstance(history, list):
        raise bad("history", history, "a list of engagements")
    posts, authors = np.zeros(len(history), np.uint64), np.zeros(len(history), np.uint64)
    actions = np.zeros((len(history), num_actions), np.float32)
    for i, item in enumerate(history):
        where = f"history[{i}]"
        if not isinstance(item, dict):
            raise bad(where, item, "an object with post_id and author_id")
        for key, ids in (("post_id", posts), ("author_id", authors)):
            if key not in item:
                raise ArtifactError(f"{region.name}: {where}.{key} is missing")
            ids[i] = read_id(f"{where}.{key}", item[key]) % 2**64
        given = item.get("actions") or {}
        if not isinstance(given, dict):
            raise bad(f"{where}.actions", given, "an object {index: value}")
        for index, value in given.items():
            if not (index.isascii() and index.isdecimal()):
                raise bad(f"{where}.actions", index, "keyed by action numbers")
            if not isinstance(value, (int, float)) or not math.isfinite(value) or abs(value) > 1e30:
                raise bad(f"{where}.actions.{index}", value, "a finite number")
            if len(index) < 10 and int(index) < num_actions:
                actions[i, int(index)] = value
    return Engagements(read_id("user_id", document["user_id"]), posts, authors, actions)


# --- saving ----------------------------------------------------------------------------------------------------------


def save_artifacts(
    path: str | Path,
    *,
    ranker: Tower | None = None,
    retrieval: Tower | None = None,
    corpus: Corpus | None = None,
    example_sequence: Engagements | None = None,
    compressed: bool = False,
) -> None:
    """Write the parts that are given into a directory, in the published layout.

    Uncompressed members start on 64-byte boundaries, so that loading maps them. A retrieval tower without
    ``~/log_temperature`` gets 0 there: the published command line reads it and uses it for nothing.
    """
    root = Path(path)
    for tower in (ranker, retrieval):
        if tower is None:
            continue
        folder = root / tower.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(tower.config.to_json(), indent=2) + "\n")
        params: dict[str, Any] = dict(tower.params.stored if isinstance(tower.params, StoredParams) else tower.params)
        if tower.name == "retrieval":
            params.setdefault(LOG_TEMPERATURE, np.zeros((), np.float32))
        stored = [stored_arrays(key, value) for key, value in params.items()]
        write_npz(
            folder / "model_params.npz", {k: v for part in stored for k, v in part.items()}, compressed=compressed
        )
        tables: dict[str, Array] = {}
        for kind in ("user", "item", "author"):
            tables |= stored_arrays(f"{kind}_embeddings", getattr(tower.tables, kind))
        write_npz(folder / "embedding_tables.npz", tables, compressed=compressed)
    root.mkdir(parents=True, exist_ok=True)
    if corpus is not None:
        arrays: dict[str, Any] = {
            "post_ids": corpus.post_ids,
            "author_ids": corpus.author_ids,
            **stored_arrays("candidate_representations", corpus.representations),
        }
        if corpus.topics is not None:
            arrays["topics"] = np.array([topic_text(topic) for topic in corpus.topics])
        if corpus.topic_ids is not None:
            arrays["topic_ids"] = corpus.topic_ids
        write_npz(root / CORPUS_FILE, arrays, compressed=compressed)
    if example_sequence is not None:
        (root / SEQUENCE_FILE).write_text(json.dumps(_sequence_to_json(example_sequence), indent=2) + "\n")


def _sequence_to_json(engagements: Engagements) -> dict[str, Any]:
    return {
        "user_id": engagements.user_id,
        "history": [
            {
                "post_id": int(post),
                "author_id": int(author),
                "actions": {str(column): float(row[column]) for column in np.flatnonzero(row)},
            }
            for post, author, row in zip(engagements.post_ids, engagements.author_ids, engagements.actions, strict=True)
        ],
    }
