"""Adapters from original data files to `Environment`; the caller gives the folder, nothing is downloaded or shipped."""

from __future__ import annotations

from collections.abc import Callable
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

# How a user gets each set. The licence comes first because it decides whether they may.
DOWNLOADS = {
    "mind-truncated": "Any part of MIND-small (same licence): keep the first lines of news.tsv and behaviors.tsv.",
    "ml-100k": "Licence: GroupLens, research use, no redistribution without permission (see its README).\n"
    "  curl -O https://files.grouplens.org/datasets/movielens/ml-100k.zip && unzip ml-100k.zip",
    "ml-1m": "Licence: GroupLens, research use, no redistribution without permission (see its README).\n"
    "  curl -O https://files.grouplens.org/datasets/movielens/ml-1m.zip && unzip ml-1m.zip",
    "mind-small": "Licence: Microsoft Research License Terms, research use only; accept them on https://msnews.github.io\n"
    "  unzip MINDsmall_train.zip -d mind-small",
    "amazon-kindle": "Licence: research use, cite Hou et al. 2024; https://amazon-reviews-2023.github.io\n"
    "  benchmark/5core/rating_only/Kindle_Store.csv.gz and raw/meta_categories/meta_Kindle_Store.jsonl.gz, unpacked",
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
        error.add_note(DOWNLOADS[name])
        raise error
    return LOADERS[name](folder)


__all__ = ["DOWNLOADS", "LOADERS", "SIGNATURES", "find", "load"]
