"""The loop between a source and what its messages are applied to: batches, retries, dead letters, catch-up, positions.

State and position are one: the target stores the positions together with what the messages did to it, and after a crash
the messages behind that point come again. Applying a message twice must have the effect of once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from xfast.errors import ParameterError, XfastError
from xfast.thunder.clock import Clock, SystemClock
from xfast.thunder.dead_letters import DeadLetter, DeadLetters
from xfast.thunder.sources import EventSource, Messages, Positions

logger = logging.getLogger(__name__)

State = Literal["new", "catching_up", "ready", "stopped", "failed"]


class Target(Protocol):
    """What messages are applied to. Called by the consumer's thread only."""

    def positions(self) -> Positions:
        """Return the positions stored with the present state."""
        ...

    def since(self) -> float:
        """Return the Unix time before which messages do not matter."""
        ...

    def apply(self, messages: Messages) -> Sequence[tuple[int, str]]:
        """Apply messages; return index and reason of those that cannot be read. May raise, and is then called again."""
        ...

    def caught_up(self) -> None:
        """The backlog has been applied; what follows arrives live."""
        ...

    def tick(self) -> None:
        """Do what is due; called every ``flush_seconds`` or sooner."""
        ...

    def save_due(self) -> bool:
        """Whether it is time for :meth:`save`."""
        ...

    def save(self, positions: Positions) -> None:
        """Store the state with these positions, durably."""
        ...


@dataclass(slots=True)
class ConsumerStats:
    """What a consumer has done. Written by its thread, read by any."""

    messages: int = 0
    batches: int = 0
    dead_letters: int = 0
    retries: int = 0
    saves: int = 0
    save_failures: int = 0
    last_message_time: float = 0.0
    catch_up_seconds: float = 0.0
    catch_up_timed_out: bool = False
    lag: dict[str, int | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ConsumerOptions:
    """How a consumer batches, retries and becomes ready.

    Parameters
    ----------
    batch_size, flush_seconds
        A batch is applied when it has this many messages or is this old.
    lag_threshold
        Caught up means: all partitions together lag by at most this many messages.
    catch_up_timeout
        After so many seconds the consumer counts as caught up all the same (logged, and counted in
        ``catch_up_timed_out``): a partition without a leader or a flood must not keep a service down for good.
    attempts, retry_seconds
        How often a failing batch is tried before it is taken apart, and the first wait in between (it doubles).
    """

    batch_size: int = 20_000
    flush_seconds: float = 0.1
    lag_threshold: int = 1_000
    catch_up_timeout: float = 600.0
    attempts: int = 3
    retry_seconds: float = 0.1

    def __post_init__(self) -> None:
        for name, low, high in (
            ("batch_size", 1, 1_000_000),
            ("flush_seconds", 0.001, 60.0),
            ("lag_threshold", 0, 1 << 62),
            ("catch_up_timeout", 0.0, 1e9),
            ("attempts", 1, 100),
            ("retry_seconds", 0.0, 60.0),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ParameterError(f"{name} is {value}, must be in [{low}, {high}]")


class Consumer:
    """Reads a source and applies its messages to a target, in a thread of its own.

    Parameters
    ----------
    source, target, dead_letters
        Where messages come from, what they are applied to, where unreadable and failing ones go.
    options
        Batching, catch-up and retries.
    clock
        Time; ``now()`` stamps dead letters, ``monotonic()`` times the catch-up.
    name
        For the log and the thread.
    """

    def __init__(
        self,
        source: EventSource,
        target: Target,
        dead_letters: DeadLetters,
        options: ConsumerOptions | None = None,
        *,
        clock: Clock | None = None,
        name: str = "thunder",
    ) -> None:
        self.source, self.target, self.dead_letters = source, target, dead_letters
        self.options = options or ConsumerOptions()
        self.clock: Clock = clock or SystemClock()
        self.name = name
        self.stats = ConsumerStats()
        self.state: State = "new"
        self.failure: BaseException | None = None
        self.positions: Positions = {}
        self._began = 0.0
        self._saved: Positions = {}
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None

    # --- from outside ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin in a thread; may be called once."""
        if self._thread is not None:
            raise ParameterError("this consumer has been started before")
        self._thread = threading.Thread(target=self._guarded, name=f"xfast-{self.name}", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether the backlog has been applied and nothing has failed since."""
        return self.state == "ready"

    def wait_ready(self, timeout: float) -> bool:
        """Wait until caught up; False after ``timeout`` seconds.

        Raises
        ------
        BaseException
            What made the consumer fail.
        """
        self._ready.wait(timeout)
        if self.failure is not None:
            raise self.failure
        return self.ready

    def stop(self, timeout: float = 30.0) -> None:
        """Drain: finish the batch in hand, store state and positions, close the source and the dead letters."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout)
            if self._thread.is_alive():
                raise XfastError(f"consumer {self.name!r} did not stop within {timeout} s")

    # --- the thread -----------------------------------------------------------------------------------------------

    def _guarded(self) -> None:
        try:
            try:
                self._run()
            finally:
                self.source.close()
                self.dead_letters.close()
            self.state = "stopped"
        except BaseException as error:
            self.failure = error
            self.state = "failed"
            logger.exception("consumer %s failed; nothing behind the stored positions is lost", self.name)
        finally:
            self._ready.set()

    def _run(self) -> None:
        self.positions = self.target.positions()
        self._saved = dict(self.positions)
        self.source.start(dict(self.positions), self.target.since())
        self._began = self.clock.monotonic()
        self.state = "catching_up"
        while not self._stop.is_set():
            messages = self.source.poll(self.options.batch_size, self.options.flush_seconds)
            if messages is not None and not self._take(messages):
                break
            self.stats.lag = self.source.lag()
            if self.state == "catching_up":
                self._check_caught_up()
            self.target.tick()
            if self.target.save_due():
                self._save()
        self._save()

    def _take(self, messages: Messages) -> bool:
        """Apply a batch and move the positions; False if the consumer was stopped before that succeeded."""
        letters: list[DeadLetter] = []
        if not self._apply(messages, letters) or not self._bury(letters):
            return False
        self.positions.update(messages.positions)
        self.stats.messages += len(messages)
        self.stats.batches += 1
        self.stats.last_message_time = self.clock.now()
        return True

    def _apply(self, messages: Messages, letters: list[DeadLetter], *, whole: bool = True) -> bool:
        """Apply, again after a failure; what goes on failing is halved until the messages that fail stand alone.

        The whole batch and a message that stands alone get all attempts, the parts on the way down one.
        """
        wait = self.options.retry_seconds
        attempts = self.options.attempts if whole or len(messages) == 1 else 1
        for attempt in range(attempts):
            try:
                bad = self.target.apply(messages)
            except Exception as error:
                failure = error
                self.stats.retries += 1
                logger.warning("%s: applying %d messages failed: %r", self.name, len(messages), error)
                if attempt + 1 < attempts and self._stop.wait(wait):
                    return False
                wait *= 2
            else:
                letters += [self._letter(messages, index, reason) for index, reason in bad]
                return True
        if len(messages) == 1:
            letters.append(self._letter(messages, 0, f"failed {attempts} times: {failure!r}"))
            return True
        middle = len(messages) // 2
        first, second = messages.part(0, middle), messages.part(middle, len(messages))
        return self._apply(first, letters, whole=False) and self._apply(second, letters, whole=False)

    def _letter(self, messages: Messages, index: int, reason: str) -> DeadLetter:
        partition, offset = messages.origins[index]
        return DeadLetter(messages.payload(index) or b"", partition, offset, reason, self.clock.now())

    def _bury(self, letters: list[DeadLetter]) -> bool:
        """Store dead letters. While that fails the consumer stands still: moving on would lose them."""
        wait = self.options.retry_seconds
        while letters:
            try:
                self.dead_letters.put(letters)
            except Exception as error:
                logger.error("%s: %d dead letters cannot be stored: %r", self.name, len(letters), error)
                if self._stop.wait(wait):
                    return False
                wait = min(30.0, wait * 2 + 0.01)
            else:
                self.stats.dead_letters += len(letters)
                for each in letters[:10]:
                    logger.warning("%s: dead letter %s@%d: %s", self.name, each.partition, each.offset, each.reason)
                return True
        return True

    def _check_caught_up(self) -> None:
        """Looked at after every poll, empty ones too, so that it cannot be missed."""
        waited = self.clock.monotonic() - self._began
        lag = self.stats.lag.values()
        if lag and None not in lag and sum(at or 0 for at in lag) <= self.options.lag_threshold:
            pass
        elif waited >= self.options.catch_up_timeout:
            self.stats.catch_up_timed_out = True
            logger.error("%s: not caught up after %.0f s, going on; lag %s", self.name, waited, self.stats.lag)
        else:
            return
        self.target.caught_up()
        self.stats.catch_up_seconds = waited
        self.state = "ready"
        self._ready.set()
        logger.info("%s: caught up after %.1f s and %d messages", self.name, waited, self.stats.messages)

    def _save(self) -> None:
        if self.positions == self._saved:
            return
        try:
            self.target.save(dict(self.positions))
        except (OSError, XfastError) as error:
            # The last good one still stands, and the messages behind it can be read again.
            self.stats.save_failures += 1
            logger.error("%s: state and positions cannot be stored: %r", self.name, error)
            return
        self._saved = dict(self.positions)
        self.stats.saves += 1
        self.source.commit(self._saved)
