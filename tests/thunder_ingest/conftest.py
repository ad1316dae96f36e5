"""Kafka for tests: librdkafka's mock cluster for speed, the real broker of `make services` where only that will do."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest


class Broker:
    """A cluster that tests write to: ``send`` and ``topic``."""

    def __init__(self, bootstrap: str, make_topic: Callable[[str, int], None]) -> None:
        from confluent_kafka import Producer

        self.bootstrap = bootstrap
        self._make_topic = make_topic
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 1, "acks": "all"})

    def topic(self, partitions: int = 4) -> str:
        """A new topic of its own name."""
        name = f"xfast-{uuid.uuid4().hex[:12]}"
        self._make_topic(name, partitions)
        return name

    def send(self, topic: str, messages: Sequence[bytes | None], partition: int | None = None) -> None:
        """Send messages and wait until the cluster has them; spread over 4 partitions where none is given."""
        failures: list[Any] = []
        for index, message in enumerate(messages):
            self._producer.produce(
                topic,
                message,
                partition=index % 4 if partition is None else partition,
                on_delivery=lambda error, _: failures.append(error) if error else None,
            )
            self._producer.poll(0)
        assert self._producer.flush(30) == 0
        assert not failures, failures[0]


@pytest.fixture(scope="session")
def mock_kafka() -> Iterator[Broker]:
    """Three mock brokers inside this process; topics have four partitions and make themselves."""
    from confluent_kafka import Producer

    owner = Producer({"bootstrap.servers": "ignored", "test.mock.num.brokers": 3})
    brokers = owner.list_topics(timeout=10).brokers.values()
    bootstrap = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)

    def make(name: str, partitions: int) -> None:
        assert partitions == 4, "the mock cluster always makes four"
        owner.list_topics(name, timeout=10)

    yield Broker(bootstrap, make)
    owner.flush(1)


@pytest.fixture(scope="session")
def kafka(kafka_bootstrap: str) -> Broker:
    """The real broker."""
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})

    def make(name: str, partitions: int) -> None:
        for created in admin.create_topics([NewTopic(name, partitions, 1)]).values():
            created.result(30)

    return Broker(kafka_bootstrap, make)
