"""Lines from a Kafka topic, through the client confluent-kafka (the extra `kafka`).

Where to go on is kept in the journal with the payments, not at the broker: so a payment and the place after it are
either both remembered or both not. Partitions are read together; within one, order is kept.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fraudlab.schema import FraudlabError, InputError
from fraudlab.scoring.stream import GROUP, WAIT

BEGINNING = -2  # what the client calls OFFSET_BEGINNING


@dataclass
class Topic:
    """A topic with a consumer that has been given its partitions.

    Parameters
    ----------
    consumer : with the methods `consume` and `close` of `confluent_kafka.Consumer`.
    topic : its name.
    offsets : partition -> the next message to read, as far as known.
    """

    consumer: Any
    topic: str
    offsets: dict[str, int]

    @classmethod
    def at(cls, address: str, position: Any = None) -> Topic:
        """Connect to `HOST:PORT/TOPIC` and go on at a position that `groups` gave, else from the beginning.

        Raises
        ------
        InputError : the address has another form.
        FraudlabError : the client is not installed, the broker is not there, or has no such topic.
        """
        found = re.fullmatch(r"([^/,\s]+(?:,[^/,\s]+)*)/([\w.-]+)", address)
        if found is None:
            raise InputError("--kafka: must look like HOST:PORT/TOPIC; found another form; correct it")
        try:
            from confluent_kafka import Consumer, KafkaException, TopicPartition
        except ImportError:
            raise FraudlabError("--kafka: its client is not installed; run: pip install 'fraudlab[kafka]'") from None
        servers, topic = found.groups()
        consumer = Consumer({"bootstrap.servers": servers, "group.id": "fraudlab", "enable.auto.commit": False})
        try:
            known = consumer.list_topics(topic, timeout=10).topics[topic]
        except KafkaException as error:
            raise FraudlabError(f"--kafka: the broker cannot be reached ({error.args[0].name()}); check it") from None
        if known.error is not None:
            raise FraudlabError(f"--kafka: the broker has no topic '{topic}'; create it, or correct the name")
        kept = position.get("offsets", {}) if isinstance(position, dict) and position.get("topic") == topic else {}
        consumer.assign(
            [TopicPartition(topic, number, kept.get(str(number), BEGINNING)) for number in sorted(known.partitions)]
        )
        return cls(consumer, topic, dict(kept))

    def groups(self, stop: threading.Event) -> Iterator[tuple[list[bytes], Any]]:
        """Yield messages that are there with the position after them, until `stop` is set.

        Raises
        ------
        FraudlabError : the broker reports an error.
        """
        try:
            while not stop.is_set():
                lines = []
                for message in self.consumer.consume(GROUP, timeout=WAIT):
                    if message.error() is not None:
                        if message.error().fatal():
                            raise FraudlabError(f"--kafka: {message.error().name()}; the monitor ends, start it again")
                        continue  # passing: the client tries again by itself
                    lines.append(message.value() or b"")
                    self.offsets[str(message.partition())] = message.offset() + 1
                if lines:
                    yield lines, {"topic": self.topic, "offsets": dict(self.offsets)}
        finally:
            self.consumer.close()
