"""A folder of snapshots: the newest good one is loaded, older ones stand by, half-written ones never have a name."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any

from xfast.errors import ParameterError, SnapshotError
from xfast.thunder.store import PostStore

logger = logging.getLogger(__name__)

_NAME = re.compile(r"(\d{12})\.snapshot")


class SnapshotFolder:
    """Snapshots ``000000000001.snapshot``, ``000000000002.snapshot``, … of one store.

    Parameters
    ----------
    folder
        Created if it is not there.
    keep
        How many of the newest to keep.
    """

    def __init__(self, folder: str | os.PathLike[str], *, keep: int = 2) -> None:
        if not 1 <= keep <= 1000:
            raise ParameterError(f"keep is {keep}, must be in [1, 1000]")
        self.folder, self.keep = Path(folder), keep
        self.folder.mkdir(parents=True, exist_ok=True)
        self.refused: list[str] = []

    def paths(self) -> list[Path]:
        """Return the snapshots that exist, newest first."""
        return sorted((path for path in self.folder.iterdir() if _NAME.fullmatch(path.name)), reverse=True)

    def save(self, store: PostStore, position: bytes) -> Path:
        """Write the next snapshot and remove those beyond ``keep``; return its path."""
        existing = self.paths()
        number = int(existing[0].stem) + 1 if existing else 1
        path = self.folder / f"{number:012d}.snapshot"
        store.save(path, position)
        for old in self.paths()[self.keep :]:
            old.unlink()
        return path

    def load(self, **options: Any) -> tuple[PostStore, bytes]:
        """Return a store with the newest snapshot that can be read, and its position.

        A snapshot that is refused is named in ``refused``, logged, and the next older one is tried. Without any the
        store and the position are empty.
        """
        self.refused = []
        for path in self.paths():
            try:
                return PostStore.load(path, **options)
            except SnapshotError as error:
                self.refused.append(str(error))
                logger.error("snapshot refused, trying the next older one: %s", error)
        return PostStore(**options), b""
