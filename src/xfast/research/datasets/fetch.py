"""Fetch a data set from its owner, after its licence was shown and accepted."""

from __future__ import annotations

import gzip
import shutil
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from xfast.errors import DataError

_BLOCK = 1 << 20


def fetch(urls: tuple[str, ...], folder: Path, *, say: Callable[[str], None]) -> list[Path]:
    """Download and unpack files into `folder`; a file that is there already is kept.

    Archives (``.zip``) are unpacked in place of being kept, ``.gz`` files lose their ending.

    Returns
    -------
    What was written: unpacked files, and the folders of archives.

    Raises
    ------
    DataError
        A file cannot be fetched, or an archive holds a path that leaves `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    out = []
    for url in urls:
        name = url.rsplit("/", 1)[1]
        target = folder / name.removesuffix(".gz").removesuffix(".zip")
        if target.exists():
            say(f"{target} is there already")
            out.append(target)
            continue
        say(f"fetching {url}")
        partial = folder / f"{name}.partial"
        try:
            with urllib.request.urlopen(url, timeout=60) as stream, partial.open("wb") as file:
                shutil.copyfileobj(stream, file, _BLOCK)
        except (urllib.error.URLError, OSError) as error:
            partial.unlink(missing_ok=True)
            raise DataError(f"{url} cannot be fetched: {error}") from error
        out.append(_unpack(partial, name, target))
        partial.unlink()
    return out


def _unpack(packed: Path, name: str, target: Path) -> Path:
    if name.endswith(".zip"):
        try:
            with zipfile.ZipFile(packed) as archive:
                for member in archive.namelist():
                    if not (packed.parent / member).resolve().is_relative_to(packed.parent.resolve()):
                        raise DataError(f"{name} holds {member!r}, which lies outside the folder; nothing was unpacked")
                archive.extractall(packed.parent)
        except zipfile.BadZipFile as error:
            raise DataError(f"{name} is no archive ({error})") from error
    elif name.endswith(".gz"):
        try:
            with gzip.open(packed) as stream:
                _copy(stream, target)  # type: ignore[arg-type]
        except gzip.BadGzipFile as error:
            raise DataError(f"{name} is no gzip file ({error})") from error
    else:
        shutil.copy(packed, target)
    return target


def _copy(stream: BinaryIO, target: Path) -> None:
    unfinished = target.with_name(target.name + ".unpacking")
    with unfinished.open("wb") as file:
        shutil.copyfileobj(stream, file, _BLOCK)
    unfinished.replace(target)
