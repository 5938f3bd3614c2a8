"""A topic's messages come in order with the place after them. The broker is a stand-in: none can be installed here."""

from __future__ import annotations

import threading

import pytest

from fraudlab.schema import FraudlabError, InputError
from fraudlab.scoring.kafka import Topic


class Problem:
    def __init__(self, fatal: bool) -> None:
        self._fatal = fatal

    def fatal(self) -> bool:
        return self._fatal

    def name(self) -> str:
        return "_FATAL"


class Message:
    def __init__(self, partition: int, offset: int, value: bytes | None, problem: Problem | None = None) -> None:
        self.given = partition, offset, value, problem

    def partition(self) -> int:
        return self.given[0]

    def offset(self) -> int:
        return self.given[1]

    def value(self) -> bytes | None:
        return self.given[2]

    def error(self) -> Problem | None:
        return self.given[3]


class Consumer:
    """Gives prepared groups of messages, then sets the event that ends the reading."""

    def __init__(self, groups: list[list[Message]], stop: threading.Event) -> None:
        self.left, self.stop, self.closed = groups, stop, False

    def consume(self, most: int, timeout: float) -> list[Message]:
        if not self.left:
            self.stop.set()
            return []
        return self.left.pop(0)

    def close(self) -> None:
        self.closed = True


def test_messages_come_with_the_place_after_them():
    stop = threading.Event()
    groups = [
        [Message(0, 5, b"a"), Message(1, 9, b"b"), Message(0, 6, None)],
        [],
        [Message(0, 0, None, Problem(False)), Message(1, 10, b"c")],
    ]
    consumer = Consumer(groups, stop)
    found = list(Topic(consumer, "payments", {"2": 4}).groups(stop))
    assert found == [
        ([b"a", b"b", b""], {"topic": "payments", "offsets": {"2": 4, "0": 7, "1": 10}}),
        ([b"c"], {"topic": "payments", "offsets": {"2": 4, "0": 7, "1": 11}}),
    ]
    assert consumer.closed


def test_what_cannot_go_on_is_said():
    stop = threading.Event()
    consumer = Consumer([[Message(0, 0, None, Problem(True))]], stop)
    with pytest.raises(FraudlabError, match="--kafka: _FATAL; the monitor ends, start it again"):
        list(Topic(consumer, "payments", {}).groups(stop))
    assert consumer.closed
    with pytest.raises(InputError, match="--kafka: must look like HOST:PORT/TOPIC"):
        Topic.at("localhost:9092")
