"""Flushes: each is done when what was put before it is safe, by the measure of who waits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.outboxes import Clock, backlog, messages
from voicecosts.producer.publishing.flushes import Flushes
from voicecosts.producer.publishing.sender import Tally


class Waiting:
    """Flushes, with one message on disk, and the server's behaviour set by hand."""

    def __init__(self, folder: Path) -> None:
        self.backlog = backlog(folder, Clock())
        self.tally = Tally()
        self.is_connected = True
        self.flushes = Flushes(self.backlog, self.tally, lambda: self.is_connected)
        (self.message,) = messages(1)
        self.backlog.keep([self.message])

    def acknowledge(self) -> None:
        """Do what the sender does when JetStream has the message."""
        (held,) = self.backlog.window(1)
        self.backlog.done(held)
        self.tally.published += held.message.events

    def is_done(self, *, patient: bool) -> bool:
        """Ask for a flush of the message, and tell whether it is done at once."""
        done = self.flushes.ask(patient=patient)
        self.flushes.wait_for(self.message.batch_number, self.flushes.next_round())
        self.flushes.resolve()
        return done.done()


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Waiting]:
    """A message that is stored and not acknowledged."""
    stored = Waiting(tmp_path)
    yield stored
    stored.backlog.close()


def test_a_patient_flush_waits_for_the_acknowledgement(waiting: Waiting) -> None:
    """Whoever asks for the acknowledgement gets it, whatever the server does meanwhile."""
    waiting.is_connected = False
    assert not waiting.is_done(patient=True)
    waiting.acknowledge()
    assert waiting.is_done(patient=True)


def test_the_outbox_is_enough_for_an_impatient_flush_while_no_server_answers(
    waiting: Waiting,
) -> None:
    """A server that is away, or was silent since a timeout, is not waited for; others are."""
    assert not waiting.is_done(patient=False)
    waiting.is_connected = False
    assert waiting.is_done(patient=False)
    waiting.is_connected = True
    waiting.flushes.timed_out()
    assert waiting.is_done(patient=False)
    waiting.tally.published += 1
    assert not waiting.is_done(patient=False)


def test_a_flush_whose_events_are_not_packed_keeps_its_place(waiting: Waiting) -> None:
    """What does not fit into a round is tried again in the next one, before newer flushes."""
    first, second = waiting.flushes.ask(patient=True), waiting.flushes.ask(patient=False)
    waiting.flushes.ask_again(waiting.flushes.next_round())
    third = waiting.flushes.ask(patient=True)
    assert [flush.done for flush in waiting.flushes.next_round()] == [first, second, third]
    assert waiting.flushes.next_round() == []


def test_a_flush_that_was_cancelled_stops_no_other(waiting: Waiting) -> None:
    """A caller whose deadline has passed cancels its future, at any moment."""
    waiting.acknowledge()
    cancelled, other = waiting.flushes.ask(patient=True), waiting.flushes.ask(patient=True)
    waiting.flushes.wait_for(waiting.message.batch_number, waiting.flushes.next_round())
    cancelled.cancel()
    waiting.flushes.resolve()
    assert other.done()
