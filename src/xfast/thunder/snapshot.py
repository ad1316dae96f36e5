"""A folder of snapshots: write the next, keep the last few, start from the newest that can be read."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xfast.errors import SnapshotError
from xfast.thunder.store import PostStore, check_limit

__all__ = ["Restored", "SnapshotDirectory"]

NAME = re.compile(r"thunder-(\d{12})\.snapshot")
PARTIAL = re.compile(r"thunder-\d{12}\.snapshot\.part-\d+")


@dataclass(frozen=True)
class Restored:
    """A store as a snapshot left it.

    Attributes
    ----------
    store
        The store; empty if the folder has no snapshot.
    position
        What was saved with it; None if the store is empty because there is no snapshot.
    path
        The file that was read.
    refused
        One message for each newer file that could not be read, newest first.
    """

    store: PostStore
    position: bytes | None
    path: Path | None = None
    refused: tuple[str, ...] = field(default=())


class SnapshotDirectory:
    """Snapshots of one store, numbered upwards.

    Parameters
    ----------
    path
        The folder; it is made if it is missing.
    keep
        How many snapshots stay after a new one is written; at least 2, so that there is an older one to fall back on.
    """

    def __init__(self, path: str | os.PathLike[str], *, keep: int = 3) -> None:
        self.path = Path(path)
        self.keep = check_limit("keep", keep, 2, 1000)
        self.path.mkdir(parents=True, exist_ok=True)

    def paths(self) -> list[Path]:
        """The snapshots, newest first."""
        found = [entry for entry in self.path.iterdir() if NAME.fullmatch(entry.name)]
        return sorted(found, key=lambda entry: entry.name, reverse=True)

    def save(self, store: PostStore, position: bytes = b"") -> Path:
        """Write the next snapshot and remove those that are too old, and what a killed process left unfinished.

        Raises
        ------
        SnapshotError
            It cannot be written; the older ones stay.
        """
        before = self.paths()
        number = int(NAME.fullmatch(before[0].name).group(1)) + 1 if before else 1  # type: ignore[union-attr]
        path = self.path / f"thunder-{number:012d}.snapshot"
        store.save(path, position)
        for old in before[self.keep - 1 :]:
            old.unlink(missing_ok=True)
        for entry in self.path.iterdir():
            if PARTIAL.fullmatch(entry.name):
                entry.unlink(missing_ok=True)
        return path

    def load(self, **options: Any) -> Restored:
        """The newest snapshot that can be read; without any snapshot an empty store.

        Parameters
        ----------
        **options
            Those of :class:`~xfast.thunder.PostStore`.

        Raises
        ------
        SnapshotError
            There are snapshots and none can be read; the message has the reason for each.
        """
        refused: list[str] = []
        for path in self.paths():
            try:
                store, position = PostStore.load(path, **options)
            except SnapshotError as error:
                refused.append(str(error))
                continue
            return Restored(store, position, path, tuple(refused))
        if refused:
            raise SnapshotError(f"{self.path}: none of {len(refused)} snapshots can be read: " + "; ".join(refused))
        return Restored(PostStore(**options), None)
