"""CorpusBuilder: keeps what retrieval can find in step with the network's events."""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from xfast.errors import DataError, ParameterError
from xfast.events import AccountState, EventBatch, Kind, Ragged
from xfast.ids import SNOWFLAKE_EPOCH_MS, as_int64, snowflake_time_ms
from xfast.phoenix.artifacts import Corpus, Tower
from xfast.phoenix.catalog import Catalog
from xfast.phoenix.features import Candidates
from xfast.phoenix.retriever import Retriever
from xfast.thunder.clock import Clock, SystemClock

if TYPE_CHECKING:
    from xfast.thunder.consumer import Consumer, ConsumerOptions
    from xfast.thunder.dead_letters import DeadLetter, DeadLetters
    from xfast.thunder.sources import EventSource, Messages, Positions

__all__ = ["CorpusBuilder"]

logger = logging.getLogger(__name__)

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
#: States in which an author's posts are hidden; protected ones reach followers, who are served in-network.
_HIDING = (AccountState.SUSPENDED, AccountState.PROTECTED, AccountState.DEACTIVATED)
_KNOWN_STATES = frozenset(state for state in AccountState if state != AccountState.UNKNOWN)
_DAY_MS = 86_400_000  # an id from the first day of snowflakes is a small number, no time
_MOST_TOPICS = 16  # per post: one with thousands would widen the column for all
_ENCODED_AT_ONCE = 4096
_LATENCIES = 4096  # the newest ones, for percentiles


class CorpusBuilder:
    """Follows network events and keeps a retriever's corpus in step: new posts in, deleted and hidden ones out.

    In this process, events are handed over as they happen::

        retriever = Retriever(artifacts.retrieval, Corpus.empty(width))
        builder = CorpusBuilder(retriever)
        builder.ingest(events)      # removals count at once, new posts wait for their batch
        builder.flush()             # … or not: everything ingested can be found now
        builder.tick()              # every so often: encodes a due batch, expires, compacts

    Beside a log or Kafka it runs in a thread of its own: ``builder.follow(source)``, and ``builder.close()`` at the
    end. The retriever can be searched by any number of threads meanwhile; methods of the builder may be called from any
    thread.

    What is found: posts that are no reposts (those lead to their original) and not ``nullcast``, not older than the
    retention, not deleted, whose author is active. Authors who are suspended, deactivated or protected disappear with
    all their posts and come back when they are active again; an erased author's posts are forgotten. Applying an event
    twice has the effect of once, and a delete may come before its post. A post that comes again with other topics gets
    them; its place among equal scores is then that of a new one.

    Parameters
    ----------
    retriever
        Has a corpus (:meth:`Corpus.empty <xfast.phoenix.Corpus.empty>` to begin with). The builder takes over what it
        holds: such a post's creation is read from its snowflake id, or is now where the id tells no time.
    retention_seconds
        How long a post can be found, from its creation.
    batch_size, batch_seconds
        New posts are encoded when there are so many, or when the first of them has waited so long.
    expire_seconds
        How often posts are looked through for old ones.
    compact_share
        Memory of removed rows is freed when they are more than this share of all.
    clock
        Time; that of the machine if left out.
    """

    def __init__(
        self,
        retriever: Retriever,
        *,
        retention_seconds: float = 172_800.0,
        batch_size: int = 1024,
        batch_seconds: float = 0.2,
        expire_seconds: float = 1.0,
        compact_share: float = 0.25,
        clock: Clock | None = None,
    ) -> None:
        if not retention_seconds > 0:
            raise ParameterError(f"retention_seconds is {retention_seconds}, must be positive")
        for name, value in (("batch_seconds", batch_seconds), ("expire_seconds", expire_seconds)):
            if not value >= 0:
                raise ParameterError(f"{name} is {value}, must not be negative")
        if batch_size < 1:
            raise ParameterError(f"batch_size is {batch_size}, must be at least 1")
        if not 0 < compact_share <= 1:
            raise ParameterError(f"compact_share is {compact_share}, must be in (0, 1]")
        self.retriever = retriever
        self.retention_ms = int(retention_seconds * 1000)
        self.batch_size, self.batch_seconds, self.expire_seconds = batch_size, batch_seconds, expire_seconds
        self.compact_share = compact_share
        self.clock: Clock = clock or SystemClock()
        self.counts: Counter[str] = Counter()
        """Totals by what happened: posts, repeated, reposts, nullcast, late, refused, added, deleted, hidden, …"""
        self._lock = threading.RLock()
        self._swapping = threading.Lock()
        self._catalog = Catalog()
        self._states: dict[int, tuple[int, int]] = {}  # author -> time and state of the last account event
        self._erased_ms: dict[int, int] = {}  # author -> posts up to this time were erased
        self._tombstones: dict[int, int] = {}  # post -> when the delete can be forgotten
        self._waiting: dict[int, int] = {}  # post to be encoded -> time of its event
        self._waiting_since = 0.0
        self._live = True
        self._next_expiry = self.clock.monotonic()
        self._found_after: deque[float] = deque(maxlen=_LATENCIES)
        self._gone_after: deque[float] = deque(maxlen=_LATENCIES)
        self._consumer: Consumer | None = None
        self._taken_out: set[int] | None = None  # since a swap began
        self._take_over()

    def _take_over(self) -> None:
        post_ids, author_ids, topics = self.retriever.posts()
        ids, first = np.unique(post_ids, return_index=True)
        if len(ids):
            first = np.sort(first)
            created = snowflake_time_ms(post_ids[first])
            told = (created > SNOWFLAKE_EPOCH_MS + _DAY_MS) & (created <= self._now_ms())
            created = np.where(told, created, self._now_ms())
            slots = self._catalog.add(post_ids[first], author_ids[first], created, topics[first])
            self._catalog.indexed[slots] = True

    # --- events -------------------------------------------------------------------------------------------------------

    def ingest(self, events: EventBatch) -> None:
        """Apply events in order. Removals count from the next search on, new posts from the next batch on."""
        with self._lock:
            accounts = events.columns(Kind.ACCOUNT)
            first = 0
            for row, user, state in zip(
                accounts.rows.tolist(), accounts["user_id"].tolist(), accounts["state"].tolist(), strict=True
            ):
                self._posts_and_deletes(events, first, row)
                self._account(user, state, int(events.time_ms[row]))
                first = row
            self._posts_and_deletes(events, first, len(events))
            if len(self._waiting) >= self.batch_size:
                self.flush()

    def flush(self) -> int:
        """Let everything be found that was ingested; returns how many posts were added."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
            if not waiting:
                return 0
            catalog = self._catalog
            slots = catalog.find(np.fromiter(waiting, np.uint64, len(waiting)))
            slots = slots[slots >= 0]
            slots = slots[self._visible(slots) & ~catalog.indexed[slots]]
            try:
                self._encode(self.retriever, slots)
            except BaseException:
                self._waiting = waiting | self._waiting  # nothing is lost: what was added meanwhile is marked indexed
                raise
            if self._live:
                now = self.clock.now()
                times = [waiting[post] for post in catalog.post_ids[slots].tolist()]
                self._found_after.extend(now - time / 1000 for time in times)
            return len(slots)

    def tick(self) -> None:
        """Do what is due: encode a batch, expire posts, free memory. Cheap if nothing is."""
        with self._lock:
            now = self.clock.monotonic()
            if self._waiting and now - self._waiting_since >= self.batch_seconds:
                self.flush()
            if now >= self._next_expiry:
                self._next_expiry = now + self.expire_seconds
                self._expire()

    def swap(self, tower: Tower) -> None:
        """Encode the whole corpus with another model, then let the retriever change over at once.

        Takes as long as encoding takes; until then the old model answers, and events go on being applied.
        """
        with self._swapping:
            fresh = self.retriever.sibling(tower, Corpus.empty(tower.config.emb_size))
            with self._lock:
                self._taken_out = set()
                slots = np.flatnonzero(self._catalog.indexed)
                post_ids = self._catalog.post_ids[slots]
                author_ids, topics = self._catalog.author_ids[slots], self._catalog.topic_ids[slots]
            try:
                for at in range(0, len(post_ids), _ENCODED_AT_ONCE):
                    part = slice(at, at + _ENCODED_AT_ONCE)
                    fresh.add(Candidates(post_ids[part], author_ids[part]), topic_ids=topics[part])
                with self._lock:
                    self._catch_up(fresh, post_ids)
                    self.retriever.swap(fresh)
                    self.counts["swaps"] += 1
            finally:
                self._taken_out = None

    def _catch_up(self, fresh: Retriever, encoded: U64) -> None:
        """Bring a retriever that was filled with ``encoded`` to where the catalog is now."""
        outdated = np.array(sorted(self._taken_out or ()), np.uint64)
        fresh.remove(outdated)
        found = np.flatnonzero(self._catalog.indexed)
        posts = self._catalog.post_ids[found]
        self._encode(fresh, found[~np.isin(posts, encoded) | np.isin(posts, outdated)])

    # --- following a source -------------------------------------------------------------------------------------------

    def follow(
        self, source: EventSource, dead_letters: DeadLetters | None = None, options: ConsumerOptions | None = None
    ) -> Consumer:
        """Apply a source's events in a thread until :meth:`close`; returns the consumer that does it.

        Reads from the beginning: the state of an account may be older than any post. Posts that are too old are passed
        over without being encoded.

        Parameters
        ----------
        source
            NetworkEvents as protobuf: a log, Kafka, or an in-memory source.
        dead_letters
            Where messages go that are no events; counted and dropped if left out.
        options
            Batching and catch-up of the consumer.
        """
        from xfast.thunder.consumer import Consumer, ConsumerOptions

        if self._consumer is not None:
            raise ParameterError("this builder follows a source already")
        options = options or ConsumerOptions(flush_seconds=min(0.1, max(self.batch_seconds, 0.001)))
        self._live = False
        self._consumer = Consumer(source, self, dead_letters or _Dropped(), options, clock=self.clock, name="corpus")
        self._consumer.start()
        return self._consumer

    def close(self, timeout: float = 30.0) -> None:
        """Stop following, and let everything be found that was ingested."""
        if self._consumer is not None:
            self._consumer.stop(timeout)
        self.flush()

    def positions(self) -> Positions:
        """See :class:`~xfast.thunder.consumer.Target`; the corpus lives in memory, so it starts anew."""
        return {}

    def since(self) -> float:
        """See :class:`~xfast.thunder.consumer.Target`."""
        return 0.0

    def apply(self, messages: Messages) -> Sequence[tuple[int, str]]:
        """See :class:`~xfast.thunder.consumer.Target`."""
        payloads = [messages.payload(index) or b"" for index in range(len(messages))]
        bad: list[tuple[int, str]] = []
        try:
            batch = EventBatch.from_bytes(payloads)
        except DataError:
            good = []
            for index, payload in enumerate(payloads):
                try:
                    good.append(EventBatch.from_bytes([payload]))
                except DataError as error:
                    bad.append((index, str(error)))
            batch = EventBatch.concat(good)
        self.ingest(batch)
        self.counts["malformed"] += len(bad)
        return bad

    def caught_up(self) -> None:
        """See :class:`~xfast.thunder.consumer.Target`: from here on, delays are measured."""
        self.flush()
        self._live = True

    def save_due(self) -> bool:
        """See :class:`~xfast.thunder.consumer.Target`."""
        return False

    def save(self, positions: Positions) -> None:
        """See :class:`~xfast.thunder.consumer.Target`; nothing is stored."""

    # --- metrics ------------------------------------------------------------------------------------------------------

    def stats(self) -> Mapping[str, float]:
        """Sizes, totals and delays in seconds: ``found_p50`` from a post's event until it could be found, ``gone_p50``
        from a delete's or suspension's event until it could not; of the newest 4,096 since the builder is live.
        """
        with self._lock:
            result: dict[str, float] = {
                "size": self.retriever.size,
                "removed_rows": self.retriever.removed,
                "waiting": len(self._waiting),
                # A post that is kept is found, waits, or has an author who is hidden.
                "hidden_posts": len(self._catalog) - int(self._catalog.indexed.sum()) - len(self._waiting),
                **{f"total_{name}": float(count) for name, count in self.counts.items()},
            }
            for name, delays in (("found", self._found_after), ("gone", self._gone_after)):
                if delays:
                    p50, p99, top = np.quantile(np.array(delays), [0.5, 0.99, 1.0]).tolist()
                    result |= {f"{name}_p50": p50, f"{name}_p99": p99, f"{name}_max": top}
            return result

    def collect(self) -> Iterator[Any]:
        """The same as Prometheus families: ``registry.register(builder)`` is all it takes (extra ``serve``)."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        gauges = GaugeMetricFamily("xfast_corpus", "Sizes of the corpus", labels=["what"])
        delays = GaugeMetricFamily(
            "xfast_corpus_delay_seconds", "From an event until searches follow it", labels=["what", "quantile"]
        )
        totals = CounterMetricFamily("xfast_corpus_events", "What happened to posts", labels=["what"])
        for name, value in self.stats().items():
            if name.startswith("total_"):
                totals.add_metric([name.removeprefix("total_")], value)
            elif name.startswith(("found_", "gone_")):
                delays.add_metric(name.split("_"), value)
            else:
                gauges.add_metric([name], value)
        yield from (gauges, delays, totals)

    # --- the rules ----------------------------------------------------------------------------------------------------

    def _posts_and_deletes(self, events: EventBatch, first: int, behind: int) -> None:
        """Apply the posts, then the deletes among the events [first, behind)."""
        for kind, apply in ((Kind.POST, self._posts), (Kind.DELETE, self._deletes)):
            columns = events.columns(kind)
            start, stop = np.searchsorted(columns.rows, [first, behind])
            if stop > start:
                part = slice(int(start), int(stop))
                apply(columns, part, events.time_ms[columns.rows[part]])

    def _posts(self, columns: Mapping[str, Any], part: slice, time_ms: I64) -> None:
        ids, authors = columns["post_id"][part], columns["author_id"][part]
        created = np.where(columns["created_at_ms"][part] > 0, columns["created_at_ms"][part], time_ms)
        topics = _topic_table(columns["topic_ids"][np.arange(part.start, part.stop)])
        self.counts["posts"] += len(ids)
        wanted = self._drop("reposts", columns["source_post_id"][part] != 0, np.ones(len(ids), bool))
        wanted = self._drop("nullcast", columns["nullcast"][part], wanted)
        wanted = self._drop("late", created < self._now_ms() - self.retention_ms, wanted)
        erased = [
            self._state_of(author) == AccountState.ERASED or time <= self._erased_ms.get(author, -1)
            for author, time in zip(authors.tolist(), time_ms.tolist(), strict=True)
        ]
        wanted = self._drop("refused", np.array(erased, bool), wanted)
        deleted = np.array([post in self._tombstones for post in ids.tolist()], bool)
        wanted = self._drop("deleted_before", deleted, wanted)
        # The last of a post's events in a batch counts.
        _, last = np.unique(ids[::-1], return_index=True)
        once = np.zeros(len(ids), bool)
        once[len(ids) - 1 - last] = True
        wanted = self._drop("repeated", ~once, wanted)
        wanted = self._drop("repeated", self._same(ids, authors, topics), wanted)
        new = np.flatnonzero(wanted)
        if not len(new):
            return
        replaced = self._catalog.find(ids[new])
        self._take_out(replaced[replaced >= 0], "replaced")
        slots = self._catalog.add(ids[new], authors[new], created[new], topics[new])
        visible = self._visible(slots)
        if not self._waiting:
            self._waiting_since = self.clock.monotonic()
        self._waiting.update(zip(ids[new][visible].tolist(), time_ms[new][visible].tolist(), strict=True))

    def _drop(self, why: str, these: Mask, wanted: Mask) -> Mask:
        self.counts[why] += int((these & wanted).sum())
        return wanted & ~these

    def _same(self, ids: U64, authors: U64, topics: I64) -> Mask:
        """Which posts the catalog has just like this."""
        catalog = self._catalog
        if catalog.slots == 0:
            return np.zeros(len(ids), bool)
        slots = catalog.find(ids)
        width = max(topics.shape[1], catalog.topic_ids.shape[1])
        same_topics = (_widened(catalog.topic_ids[slots], width) == _widened(topics, width)).all(axis=1)
        same: Mask = same_topics & (slots >= 0) & (catalog.author_ids[slots] == authors)
        return same

    def _deletes(self, columns: Mapping[str, Any], part: slice, time_ms: I64) -> None:
        ids = columns["post_id"][part]
        for post, time in zip(ids.tolist(), time_ms.tolist(), strict=True):
            self._tombstones[post] = max(self._tombstones.get(post, 0), time + self.retention_ms)
        slots = self._catalog.find(ids)
        known = slots >= 0
        self._take_out(np.unique(slots[known]), "deleted")
        self._note_gone(time_ms[known])

    def _account(self, user: int, state: int, time_ms: int) -> None:
        if state not in _KNOWN_STATES or (state == AccountState.ACTIVE and user not in self._states):
            return
        last_ms, last = self._states.get(user, (time_ms, int(AccountState.ACTIVE)))
        if time_ms < last_ms:
            return
        self._states[user] = (time_ms, state)
        if state == last and state != AccountState.ERASED:
            return
        slots = self._catalog.of_author(user)
        if state == AccountState.ACTIVE:
            back = slots[~self._catalog.indexed[slots]]
            if len(back) and not self._waiting:
                self._waiting_since = self.clock.monotonic()
            for post in self._catalog.post_ids[back].tolist():
                self._waiting.setdefault(post, time_ms)
            self.counts["returned"] += len(back)
            return
        if state == AccountState.ERASED:
            self._erased_ms[user] = time_ms
            self._take_out(slots, "erased")
        else:
            self.counts["hidden"] += self._hide(slots)
        self._note_gone(np.array([time_ms]))

    def _hide(self, slots: I64) -> int:
        """Let nobody find these posts any more; returns how many somebody could."""
        catalog = self._catalog
        posts = catalog.post_ids[slots]
        found = posts[catalog.indexed[slots]]
        self.retriever.remove(found)
        catalog.indexed[slots] = False
        for post in posts.tolist():
            self._waiting.pop(post, None)
        if self._taken_out is not None:
            self._taken_out.update(found.tolist())
        return len(found)

    def _take_out(self, slots: I64, why: str) -> None:
        """Forget posts, and let nobody find them any more."""
        self._hide(slots)
        self._catalog.give_up(slots)
        self.counts[why] += len(slots)

    def _visible(self, slots: I64) -> Mask:
        """Which posts' authors are active."""
        hidden = [self._state_of(author) in _HIDING for author in self._catalog.author_ids[slots].tolist()]
        return ~np.array(hidden, bool)

    def _state_of(self, author: int) -> int:
        return self._states.get(author, (0, int(AccountState.ACTIVE)))[1]

    def _encode(self, retriever: Retriever, slots: I64) -> None:
        for at in range(0, len(slots), _ENCODED_AT_ONCE):
            part = slots[at : at + _ENCODED_AT_ONCE]
            catalog = self._catalog
            retriever.add(
                Candidates(catalog.post_ids[part], catalog.author_ids[part]), topic_ids=catalog.topic_ids[part]
            )
            catalog.indexed[part] = True
            self.counts["added"] += len(part)
        self.counts["batches"] += bool(len(slots))

    def _expire(self) -> None:
        self._take_out(self._catalog.created_before(self._now_ms() - self.retention_ms), "expired")
        now = self._now_ms()
        for post in [post for post, until in self._tombstones.items() if until < now]:
            del self._tombstones[post]
        self._catalog.vacuum()
        removed = self.retriever.removed
        if removed > self.compact_share * (self.retriever.size + removed):
            self.counts["compactions"] += 1
            self.retriever.compact()

    def _note_gone(self, time_ms: I64) -> None:
        if self._live:
            now = self.clock.now()
            self._gone_after.extend((now - time_ms / 1000).tolist())

    def _now_ms(self) -> int:
        return int(self.clock.now() * 1000)


class _Dropped:
    """A place for dead letters that keeps none; the builder has counted them."""

    def put(self, letters: Sequence[DeadLetter]) -> None:
        """Nothing is stored."""

    def close(self) -> None:
        """Nothing is held."""


def _topic_table(topics: Ragged) -> I64:
    """Lists of topics as rows of one table, 0 for none; a list is cut where it is too long."""
    lengths = np.minimum(topics.lengths, _MOST_TOPICS)
    table = np.zeros((len(topics), max(1, int(lengths.max(initial=0)))), np.int64)
    places = np.arange(table.shape[1])[None, :] < lengths[:, None]
    source = topics.offsets[:-1][:, None] + np.arange(table.shape[1])[None, :]
    table[places] = as_int64(topics.values)[source[places]]
    return table


def _widened(table: I64, width: int) -> I64:
    return np.pad(table, ((0, 0), (0, width - table.shape[1])))
