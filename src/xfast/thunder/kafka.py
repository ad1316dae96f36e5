"""Apache Kafka: a source of events, and topics where derived events and dead letters go (extra ``kafka``).

Positions are the consumer's business, not Kafka's: a store saves them in its snapshot. Offsets are committed to the
group too, after the snapshot, so that other tools see the progress.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy.typing as npt

from xfast.errors import DataError, ParameterError, SnapshotError, XfastError
from xfast.thunder.dead_letters import DeadLetter
from xfast.thunder.sources import Messages, Positions

logger = logging.getLogger(__name__)

# librdkafka's own words, which would otherwise go to stderr.
_librdkafka = logging.getLogger(f"{__name__}.librdkafka")

Resume = Literal["positions", "group"]


def _kafka() -> Any:
    try:
        import confluent_kafka
    except ImportError as error:
        raise XfastError("Kafka needs confluent-kafka: pip install 'xfast[kafka]'") from error
    return confluent_kafka


def partition_block(partitions: int, index: int, blocks: int) -> range:
    """Return the partitions of consumer ``index`` of ``blocks``: contiguous, every partition in exactly one block.

    The sizes differ by at most one, so no block is empty unless there are more blocks than partitions (the release cuts
    by ``ceil(n / blocks)``, which may leave the last blocks without any: THUNDER §6).
    """
    if blocks < 1:
        raise ParameterError(f"blocks is {blocks}, must be at least 1")
    if not 0 <= index < blocks:
        raise ParameterError(f"index is {index}, must be in [0, {blocks - 1}]")
    return range(partitions * index // blocks, partitions * (index + 1) // blocks)


class KafkaSource:
    """The partitions of one topic, a fixed block of them or what a consumer group assigns.

    Restarts of brokers, cut connections, changes of leaders and rebalances are lived through: meanwhile there are no
    messages. Offsets that the broker has expired are stepped over and counted in ``expired``.

    Parameters
    ----------
    bootstrap
        ``host:port`` of brokers, separated by commas.
    topic
        The topic; it may be created later.
    block
        ``(index, blocks)``: read a fixed share of the partitions, see :func:`partition_block`.
    group
        The consumer group. Without ``block`` it assigns the partitions; with one it only shows the progress.
    resume
        What an assigned partition goes on from: ``"positions"``, those of the state (a store that lost a partition and
        gets it back must see what came meanwhile), or ``"group"``, what the group committed (whoever has no state).
    options
        More settings of librdkafka, such as those of TLS and SASL.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        *,
        block: tuple[int, int] | None = None,
        group: str | None = None,
        resume: Resume = "positions",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if resume not in ("positions", "group"):
            raise ParameterError(f"resume is {resume!r}, must be 'positions' or 'group'")
        if block is None and group is None:
            block = (0, 1)
        if block is not None:
            partition_block(1, *block)
        self.topic, self.block, self.group, self.resume = topic, block, group, resume
        self.errors = 0
        self.expired = 0
        self.rebalances = 0
        self._kafka = _kafka()
        self._settings: dict[str, Any] = {
            "bootstrap.servers": bootstrap,
            "group.id": group or "xfast-unused",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            # Back-pressure: what librdkafka fetches ahead is bounded, and no more is fetched until it has been polled.
            "queued.max.messages.kbytes": 65_536,
            "fetch.message.max.bytes": 10 << 20,
            "fetch.wait.max.ms": 50,
            "reconnect.backoff.max.ms": 2_000,
            "topic.metadata.refresh.interval.ms": 10_000,
            "error_cb": self._on_error,
            "on_commit": self._on_commit,
            **(options or {}),
        }
        self._consumer: Any = None
        self._next: dict[int, int] = {}
        self._high: dict[int, int] = {}
        self._stuck: set[int] = set()
        self._resume_at: Positions = {}
        self._since = 0.0
        self._assigned = False
        self._pending: list[Any] | None = None

    # --- the protocol ---------------------------------------------------------------------------------------------

    def start(self, positions: Positions, since: float) -> None:
        """See :meth:`xfast.thunder.sources.EventSource.start`."""
        other = sorted(name for name in positions if not name.startswith(f"{self.topic}["))
        if other:
            raise SnapshotError(f"the snapshot belongs to {other[0]}, this source is the topic {self.topic!r}")
        self.close()
        self._resume_at, self._since = dict(positions), since
        self._consumer = self._kafka.Consumer(self._settings, logger=_librdkafka)
        if self.block is None:
            self._consumer.subscribe([self.topic], on_assign=self._on_assign, on_revoke=self._on_revoke)
        else:
            self._assign_block()

    def poll(self, max_messages: int, timeout: float) -> Messages | None:
        """See :meth:`xfast.thunder.sources.EventSource.poll`; waits until there are enough or the time is over."""
        assert self._consumer is not None, "start() comes first"
        if not self._assigned and self.block is not None:
            self._assign_block()
            if not self._assigned:
                time.sleep(timeout)
                return None
        if self._pending is not None:
            self._assign_pending()
        if self._stuck:
            self._unstick()
        try:
            received = self._consumer.consume(max_messages, timeout)
        except self._kafka.KafkaException as error:
            self._count(error.args[0])
            return None
        good = [message for message in received if message.error() is None]
        if len(good) != len(received):
            for message in received:
                if message.error() is not None:
                    self._on_message_error(message)
        if not good:
            return None
        last = {message.partition(): message.offset() for message in good}
        for partition, offset in last.items():
            self._next[partition] = max(offset + 1, self._next.get(partition, 0))
        positions = {self._name(partition): offset + 1 for partition, offset in last.items()}
        self._resume_at.update(positions)
        return Messages([message.value() for message in good], positions, _Origins(self.topic, good))

    def lag(self) -> dict[str, int | None]:
        """See :meth:`xfast.thunder.sources.EventSource.lag`; empty while no partition is assigned."""
        result: dict[str, int | None] = {}
        for partition, at in self._next.items():
            _, cached = self._consumer.get_watermark_offsets(self._partition(partition), cached=True)
            high = max(cached, self._high.get(partition, -1))
            result[self._name(partition)] = max(0, high - at) if high >= 0 else None
        return result

    def commit(self, positions: Positions) -> None:
        """Commit to the group; a failure is only counted.

        Who resumes from the group waits for the answer. Where the positions are safe elsewhere nobody waits: while the
        group's coordinator is away an answer may take most of a minute, and events of other brokers would stand still.
        """
        if self.group is None or self._consumer is None:
            return
        offsets = [
            self._partition(number, positions[self._name(number)])
            for number in self._next
            if self._name(number) in positions
        ]
        if offsets:
            try:
                self._consumer.commit(offsets=offsets, asynchronous=self.resume == "positions")
            except self._kafka.KafkaException as error:
                self._count(error.args[0])

    def close(self) -> None:
        """Leave the group and close the connections."""
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            consumer.close()
        self._next, self._high, self._stuck, self._assigned, self._pending = {}, {}, set(), False, None

    # --- assignment -----------------------------------------------------------------------------------------------

    def _name(self, partition: int) -> str:
        return f"{self.topic}[{partition}]"

    def _partition(self, partition: int, offset: int | None = None) -> Any:
        if offset is None:
            return self._kafka.TopicPartition(self.topic, partition)
        return self._kafka.TopicPartition(self.topic, partition, offset)

    def _assign_block(self) -> None:
        """Assign the block once the topic is there; until then the next poll tries again."""
        assert self.block is not None
        try:
            known = self._consumer.list_topics(self.topic, timeout=5.0).topics[self.topic]
            if known.error is not None or not known.partitions:
                logger.warning("topic %s is not there yet", self.topic)
                return
            wanted = [self._partition(number) for number in partition_block(len(known.partitions), *self.block)]
            if not wanted:  # it would wait for a backlog that never comes, and then serve nothing
                raise ParameterError(
                    f"block is {self.block}: the topic {self.topic!r} has {len(known.partitions)} partitions, "
                    "too few for one in every block"
                )
            if self._resolve(wanted):
                self._consumer.assign(wanted)
                self._assigned = True
        except self._kafka.KafkaException as error:
            self._count(error.args[0])

    def _on_assign(self, consumer: Any, partitions: list[Any]) -> None:
        self.rebalances += 1
        self._pending = partitions
        logger.info("topic %s: assigned %s", self.topic, sorted(p.partition for p in partitions))
        self._assign_pending()

    def _assign_pending(self) -> None:
        """Assign what the group gave us; while the brokers do not say from where, the next poll tries again."""
        if self._pending is not None and self._resolve(self._pending):
            self._consumer.assign(self._pending)
            self._pending = None

    def _on_revoke(self, consumer: Any, partitions: list[Any]) -> None:
        # Called inside consume(): everything polled before has been applied by now. Whoever resumes from the group gets
        # the newest offsets; a store has its own.
        if self.resume == "group":
            self.commit(self._resume_at)
        self._pending = None
        for each in partitions:
            self._next.pop(each.partition, None)
            self._high.pop(each.partition, None)
            self._stuck.discard(each.partition)
        consumer.unassign()

    def _resolve(self, partitions: list[Any]) -> bool:
        """Fill in where each partition begins; False if the brokers did not answer."""
        if not partitions:
            return True
        committed: dict[int, int] = {}
        try:
            if self.resume == "group":
                committed = {p.partition: p.offset for p in self._consumer.committed(partitions, timeout=10.0)}
            by_time: dict[int, int] = {}
            if self._since > 0:
                # librdkafka takes a time in the place of the offset, and answers -1 where all records are older.
                asked = [self._partition(p.partition, int(self._since * 1000)) for p in partitions]
                by_time = {p.partition: p.offset for p in self._consumer.offsets_for_times(asked, timeout=10.0)}
            for each in partitions:
                low, high = self._consumer.get_watermark_offsets(self._partition(each.partition), timeout=10.0)
                at = committed.get(each.partition, -1)
                if at < 0:
                    at = self._resume_at.get(self._name(each.partition), -1)
                if at < 0:
                    found = by_time.get(each.partition, low)
                    at = found if found >= 0 else high
                each.offset = self._within(each.partition, at, low, high)
                self._next[each.partition], self._high[each.partition] = each.offset, high
        except self._kafka.KafkaException as error:
            self._count(error.args[0])
            return False
        return True

    def _within(self, partition: int, at: int, low: int, high: int) -> int:
        if at > high:
            raise SnapshotError(
                f"{self._name(partition)}: position {at} lies beyond the end of the partition, {high}; "
                "the topic was truncated or made anew, so this state cannot go on from it"
            )
        if at < low:
            self.expired += low - at
            logger.warning("%s: offsets %d to %d have expired", self._name(partition), at, low - 1)
            return low
        return at

    # --- trouble --------------------------------------------------------------------------------------------------

    def _on_error(self, error: Any) -> None:
        self._count(error)

    def _on_commit(self, error: Any, partitions: list[Any]) -> None:
        if error is not None and self.resume == "positions":  # else the caller of commit() was told
            self._count(error)

    def _count(self, error: Any) -> None:
        self.errors += 1
        logger.warning("topic %s: %s", self.topic, error)

    def _on_message_error(self, message: Any) -> None:
        error, partition = message.error(), message.partition()
        if error.code() == self._kafka.KafkaError._PARTITION_EOF:
            # The offset behind the last record, also where transaction markers lie between.
            self._next[partition] = max(message.offset(), self._next.get(partition, 0))
            self._high[partition] = max(message.offset(), self._high.get(partition, 0))
            return
        self._count(error)
        out_of_range = (self._kafka.KafkaError._AUTO_OFFSET_RESET, self._kafka.KafkaError.OFFSET_OUT_OF_RANGE)
        if error.code() in out_of_range and partition in self._next:
            self._stuck.add(partition)

    def _unstick(self) -> None:
        """Go on behind expired offsets: librdkafka fetches such a partition again only when it is newly assigned."""
        try:
            for partition in sorted(self._stuck):
                low, high = self._consumer.get_watermark_offsets(self._partition(partition), timeout=10.0)
                self._next[partition] = self._within(partition, self._next[partition], low, high)
            self._consumer.assign([self._partition(partition, at) for partition, at in self._next.items()])
            self._stuck.clear()
        except self._kafka.KafkaException as error:
            self._count(error.args[0])


class _Origins(Sequence[tuple[str, int]]):
    """Partition and offset of Kafka messages, looked up only for dead letters."""

    def __init__(self, topic: str, messages: Sequence[Any]) -> None:
        self._topic, self._messages = topic, messages

    def __len__(self) -> int:
        return len(self._messages)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        if isinstance(index, slice):
            return _Origins(self._topic, self._messages[index])
        message = self._messages[index]
        return f"{self._topic}[{message.partition()}]", message.offset()


class KafkaTopic:
    """Writes to one topic and knows what arrived: idempotent producer, all in-sync replicas.

    Parameters
    ----------
    bootstrap, topic, options
        As for :class:`KafkaSource`.
    timeout
        Seconds until a message that the brokers do not take counts as failed.
    """

    def __init__(
        self, bootstrap: str, topic: str, *, timeout: float = 30.0, options: Mapping[str, Any] | None = None
    ) -> None:
        self._kafka = _kafka()
        self.topic, self.timeout = topic, timeout
        self._failed: list[Any] = []
        self._producer = self._kafka.Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 5,
                "compression.type": "lz4",
                "delivery.timeout.ms": int(timeout * 1000),
                "reconnect.backoff.max.ms": 2_000,
                "queue.buffering.max.messages": 200_000,
                **(options or {}),
            },
            logger=_librdkafka,
        )

    def partitions(self) -> int:
        """Return the number of partitions of the topic."""
        known = self._producer.list_topics(self.topic, timeout=self.timeout).topics[self.topic]
        if known.error is not None:
            raise DataError(f"topic {self.topic!r}: {known.error}")
        return len(known.partitions)

    def send(
        self,
        values: Sequence[bytes],
        keys: Sequence[bytes] | None = None,
        *,
        partitions: Sequence[int] | None = None,
        headers: Sequence[dict[str, str]] | None = None,
    ) -> None:
        """Send messages and wait until the brokers have them all.

        Raises
        ------
        DataError
            Some were not taken. Sending all of them again is safe: whoever reads them applies them once.
        """
        self._failed = []
        for index, value in enumerate(values):
            extra: dict[str, Any] = {"on_delivery": self._delivered}
            if keys is not None:
                extra["key"] = keys[index]
            if partitions is not None:
                extra["partition"] = partitions[index]
            if headers is not None:
                extra["headers"] = headers[index]
            while True:
                try:
                    self._producer.produce(self.topic, value, **extra)
                    break
                except BufferError:  # the queue is full: wait for deliveries, that is the back-pressure
                    self._producer.poll(0.1)
        waiting = self._producer.flush(self.timeout + 5.0)
        if waiting or self._failed:
            reason = self._failed[0] if self._failed else "no answer from the brokers"
            self._producer.purge()
            self._producer.flush(1.0)
            raise DataError(f"topic {self.topic!r}: {waiting + len(self._failed)} messages were not taken: {reason}")

    def _delivered(self, error: Any, message: Any) -> None:
        if error is not None:
            self._failed.append(error)

    def close(self) -> None:
        """Close the connections; nothing is waiting, since ``send`` waits itself."""
        self._producer.flush(1.0)


class DeadLetterTopic:
    """Dead letters as messages of a topic: the payload as it was; origin and reason as headers."""

    def __init__(self, topic: KafkaTopic) -> None:
        self._topic = topic

    def put(self, letters: Sequence[DeadLetter]) -> None:
        """See :meth:`xfast.thunder.dead_letters.DeadLetters.put`."""
        self._topic.send(
            [letter.payload for letter in letters],
            headers=[
                {
                    "partition": letter.partition,
                    "offset": str(letter.offset),
                    "reason": letter.reason,
                    "time": f"{letter.time:.3f}",
                }
                for letter in letters
            ],
        )

    def close(self) -> None:
        """See :meth:`xfast.thunder.dead_letters.DeadLetters.close`."""
        self._topic.close()


def message_keys(keys: npt.NDArray[Any]) -> list[bytes]:
    """Return ids as keys of 8 bytes, little-endian: all events of one post share a partition and keep their order."""
    data = keys.astype("<i8").tobytes()
    return [data[at : at + 8] for at in range(0, len(data), 8)]
