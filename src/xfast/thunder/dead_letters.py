"""Messages that cannot be applied: where they go, with where they came from and why, instead of being dropped."""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from xfast.errors import DataError


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message that was given up: its bytes, partition and offset, the reason, and when (Unix seconds)."""

    payload: bytes
    partition: str
    offset: int
    reason: str
    time: float


class DeadLetters(Protocol):
    """A place for dead letters. A letter may come twice: after a crash the same messages are read again."""

    def put(self, letters: Sequence[DeadLetter]) -> None:
        """Store the letters durably; raises if that fails, and then the ingestion does not move on."""
        ...

    def close(self) -> None:
        """Let go of what is held."""
        ...


class DeadLetterFile:
    """Dead letters as JSON lines in one file: partition, offset, reason, time, and the payload in base64."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()

    def put(self, letters: Sequence[DeadLetter]) -> None:
        """Append and flush to the disk."""
        lines = "".join(
            json.dumps(
                {
                    "partition": letter.partition,
                    "offset": letter.offset,
                    "reason": letter.reason,
                    "time": letter.time,
                    "payload": base64.b64encode(letter.payload).decode(),
                }
            )
            + "\n"
            for letter in letters
        )
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as file:
                size = file.seek(0, os.SEEK_END)
                # A crash may have left half a line; it must not swallow the first new one.
                torn = size > 0 and (file.seek(size - 1), file.read(1))[1] != b"\n"
                file.write((b"\n" if torn else b"") + lines.encode())
                file.flush()
                os.fsync(file.fileno())

    def read(self) -> Iterator[DeadLetter]:
        """Iterate over the letters in the file; a line torn by a crash is passed over.

        Raises
        ------
        DataError
            A line is JSON but not a dead letter.
        """
        if not self.path.exists():
            return
        with self.path.open() as file:
            for number, line in enumerate(file, 1):
                try:
                    fields = json.loads(line)
                except ValueError:
                    continue
                try:
                    payload = base64.b64decode(fields.pop("payload"))
                    yield DeadLetter(payload=payload, **fields)
                except (KeyError, TypeError, ValueError) as error:
                    raise DataError(f"{self.path}, line {number}: not a dead letter: {error!r}") from None

    def close(self) -> None:
        """Nothing is held between two puts."""
