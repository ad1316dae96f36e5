"""Adapters from original data files to `Environment`; the caller gives the folder, nothing is shipped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from xfast.errors import DataError, ParameterError
from xfast.research.datasets import kindle, mind, movielens
from xfast.research.environment import Environment

LOADERS: dict[str, Callable[[Path], Environment]] = {
    "ml-100k": movielens.load_100k,
    "ml-1m": movielens.load_1m,
    "mind-small": mind.load,
    "mind-truncated": mind.load,
    "amazon-kindle": kindle.load,
}

# What must lie in the folder for the adapter to recognise it.
SIGNATURES = {
    "ml-100k": ("ua.base", "u.item"),
    "ml-1m": ("ratings.dat", "movies.dat"),
    "mind-small": ("news.tsv", "behaviors.tsv"),
    "mind-truncated": ("news.tsv", "behaviors.tsv"),
    "amazon-kindle": ("Kindle_Store.csv", "meta_Kindle_Store.jsonl"),
}


@dataclass(frozen=True)
class Source:
    """Where a data set comes from.

    Attributes
    ----------
    licence
        What its owner allows; shown before anything else, because it decides whether a user may have it at all.
    urls
        Files to fetch; empty where the owner wants the terms accepted on a page of theirs.
    how
        What to do by hand instead, or what the files are.
    """

    licence: str
    urls: tuple[str, ...]
    how: str

    def __str__(self) -> str:
        return "\n  ".join((f"Licence: {self.licence}", *self.urls, self.how))


_GROUPLENS = "GroupLens: research use with citation, no redistribution and no commercial use without permission"
_KINDLE = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023"
DOWNLOADS: dict[str, Source] = {
    "ml-100k": Source(
        _GROUPLENS, ("https://files.grouplens.org/datasets/movielens/ml-100k.zip",), "The README inside has the terms."
    ),
    "ml-1m": Source(
        _GROUPLENS, ("https://files.grouplens.org/datasets/movielens/ml-1m.zip",), "The README inside has the terms."
    ),
    "mind-small": Source(
        "Microsoft Research License Terms: research use only, accepted on the page",
        (),
        "Accept the terms on https://msnews.github.io, then: unzip MINDsmall_train.zip -d mind-small",
    ),
    "mind-truncated": Source(
        "as mind-small", (), "Any part of MIND-small: keep the first lines of news.tsv and behaviors.tsv."
    ),
    "amazon-kindle": Source(
        "Amazon Reviews 2023 (Hou et al. 2024): research use, cite the paper; https://amazon-reviews-2023.github.io",
        (
            f"{_KINDLE}/benchmark/5core/rating_only/Kindle_Store.csv.gz",
            f"{_KINDLE}/raw/meta_categories/meta_Kindle_Store.jsonl.gz",
        ),
        "Several GB; unpacked to Kindle_Store.csv and meta_Kindle_Store.jsonl.",
    ),
}


def find(root: Path) -> dict[str, Path]:
    """Data sets under `root` (the folder itself and its direct children), name -> folder."""
    if not root.is_dir():
        raise DataError(f"--data {root} is not a folder")
    found: dict[str, Path] = {}
    for folder in (root, *sorted(child for child in root.iterdir() if child.is_dir())):
        for name, files in SIGNATURES.items():
            if name in found or not all((folder / file).is_file() for file in files):
                continue
            if name.startswith("mind-") and mind.is_complete(folder) != (name == "mind-small"):
                continue
            found[name] = folder
    return found


def load(name: str, folder: Path) -> Environment:
    """Read data set `name` from its original files in `folder`."""
    if name not in LOADERS:
        raise ParameterError(f"dataset is {name!r}; known are {', '.join(LOADERS)}")
    missing = [file for file in SIGNATURES[name] if not (folder / file).is_file()]
    if missing:
        error = DataError(f"{name}: {folder / missing[0]} is not here")
        error.add_note(str(DOWNLOADS[name]))
        raise error
    return LOADERS[name](folder)


__all__ = ["DOWNLOADS", "LOADERS", "SIGNATURES", "Source", "find", "load"]
