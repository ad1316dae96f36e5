"""Checkpoints: everything a run needs to go on bit for bit, in one file that is whole or not there at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.errors import SnapshotError
from xfast.phoenix.npz import write_npz

__all__ = ["Checkpoint"]

_META = "meta"
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """State of a run after ``step`` steps.

    Attributes
    ----------
    step
        Steps done.
    run
        What must be equal to go on: configurations, seed, data (plain JSON values).
    progress
        What has been measured so far (plain JSON values).
    arrays
        Everything else, by name.
    """

    step: int
    run: Mapping[str, Any]
    progress: Mapping[str, Any]
    arrays: Mapping[str, npt.NDArray[Any]]

    def save(self, path: str | Path) -> None:
        """Write to a temporary file beside ``path``, flush it to disk, and rename: a crash leaves the old one."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(target.name + ".tmp")
        meta = json.dumps(
            {"format": _FORMAT, "step": self.step, "run": self.run, "progress": self.progress}, sort_keys=True
        )
        write_npz(temporary, {**self.arrays, _META: np.frombuffer(meta.encode(), np.uint8)})
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @classmethod
    def load(cls, path: str | Path) -> Checkpoint:
        """Read a checkpoint.

        Raises
        ------
        SnapshotError
            The file cannot be read or is of another format.
        """
        try:
            with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            meta = json.loads(arrays.pop(_META).tobytes())
        except Exception as error:  # zipfile, numpy and json each have their own
            raise SnapshotError(f"{path}: not a readable checkpoint: {error}") from error
        if meta.get("format") != _FORMAT:
            raise SnapshotError(f"{path}: format {meta.get('format')}, this version reads {_FORMAT}")
        return cls(meta["step"], meta["run"], meta["progress"], arrays)

    def require(self, run: Mapping[str, Any], path: str | Path) -> None:
        """Raise :class:`SnapshotError` naming the first setting in which ``run`` differs."""
        wanted = json.loads(json.dumps(run))
        for key in sorted(set(wanted) | set(self.run)):
            if wanted.get(key) != self.run.get(key):
                raise SnapshotError(
                    f"{path}: belongs to another run: {key} was {self.run.get(key)!r}, is {wanted.get(key)!r}"
                )
