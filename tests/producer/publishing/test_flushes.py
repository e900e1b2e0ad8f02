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
        self.is_connected = True
        self.tally = Tally()
        self.flushes = Flushes(self.backlog, self.tally, lambda: self.is_connected)
        (self.message,) = messages(1)
        self.backlog.keep([self.message])

    def acknowledge(self) -> None:
        """Do what the sender does when JetStream has the message."""
        (held,) = self.backlog.window(1)
        self.backlog.done(held)
        self.backlog.forget_done()

    def result(self, number: int | None = None, *, patient: bool) -> bool | None:
        """Ask for a flush up to a message, and return its result, `None` while it waits."""
        done = self.flushes.ask(patient=patient)
        up_to = self.message.batch_number if number is None else number
        self.flushes.wait_for(up_to, self.flushes.next_round())
        self.flushes.resolve()
        return done.result(0) if done.done() else None


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Waiting]:
    """A message that is stored and not acknowledged."""
    stored = Waiting(tmp_path)
    yield stored
    stored.backlog.close()


def test_a_patient_flush_waits_for_the_acknowledgement(waiting: Waiting) -> None:
    """Whoever asks for the acknowledgement gets it, whatever the server does meanwhile."""
    waiting.is_connected = False
    assert waiting.result(patient=True) is None
    waiting.acknowledge()
    assert waiting.result(patient=True) is True


def test_the_outbox_is_enough_for_an_impatient_flush_while_no_server_answers(
    waiting: Waiting,
) -> None:
    """A server that is away, or did not answer a wait, is not waited for; others are."""
    assert waiting.result(patient=False) is None
    waiting.is_connected = False
    assert waiting.result(patient=False) is True
    waiting.is_connected = True
    waiting.flushes.timed_out()
    assert waiting.result(patient=False) is True
    assert waiting.result(patient=True) is None


def test_a_wait_was_in_vain_until_all_that_it_waited_for_is_safe(waiting: Waiting) -> None:
    """A server that works off hours of messages acknowledges others first, and costs one wait."""
    (later,) = messages(1, first=2)
    waiting.backlog.keep([later])
    waiting.flushes.timed_out()
    waiting.flushes.wait_for(later.batch_number, waiting.flushes.next_round())
    waiting.acknowledge()
    assert waiting.result(later.batch_number, patient=False) is True
    waiting.acknowledge()
    (newest,) = messages(1, first=3)
    waiting.backlog.keep([newest])
    assert waiting.result(newest.batch_number, patient=False) is None


def test_an_impatient_flush_is_told_after_one_try_that_nothing_can_become_safe(
    tmp_path: Path,
) -> None:
    """The folder cannot be made, so the events are lost with the process: the server is tried.

    Once at the end of a call; until the deadline at the end of the process, unless that timed out.
    """
    (tmp_path / "file").touch()
    waiting = Waiting(tmp_path / "file" / "outbox")
    waiting.is_connected = False
    asked = waiting.flushes.ask(patient=False)
    patient = waiting.flushes.ask(patient=True)
    last = waiting.flushes.ask(patient=False, is_last=True)
    waiting.flushes.wait_for(1, waiting.flushes.next_round())
    waiting.flushes.resolve()
    assert not asked.done()
    waiting.tally.tries += 1
    waiting.flushes.resolve()
    assert (asked.result(0), patient.done(), last.done()) == (False, False, False)
    waiting.flushes.timed_out()
    waiting.flushes.wait_for(1, waiting.flushes.next_round())
    waiting.flushes.resolve()
    assert (patient.done(), last.result(0)) == (False, False)


def test_without_a_server_a_flush_is_told_at_once_that_nothing_can_become_safe(
    tmp_path: Path,
) -> None:
    """There is nothing to try."""
    (tmp_path / "file").touch()
    waiting = Waiting(tmp_path / "file" / "outbox")
    waiting.flushes = Flushes(waiting.backlog, Tally(), lambda: False, has_server=False)
    assert waiting.result(patient=False) is False
    assert waiting.result(patient=True) is None


def test_where_no_event_can_be_packed_an_impatient_flush_is_told_so(waiting: Waiting) -> None:
    """At the bound events stay in the buffer: they are waited for only while that can change."""
    asked = waiting.flushes.ask(patient=False)
    waiting.flushes.ask_again(waiting.flushes.next_round())
    assert not asked.done()
    waiting.flushes.timed_out()
    waiting.flushes.ask_again(waiting.flushes.next_round())
    assert asked.result(0) is False
    patient, later = waiting.flushes.ask(patient=True), waiting.flushes.ask(patient=False)
    waiting.flushes.ask_again(waiting.flushes.next_round())
    assert (patient.done(), later.result(0)) == (False, False)
    waiting.flushes.wait_for(waiting.message.batch_number, waiting.flushes.next_round())
    waiting.acknowledge()
    waiting.flushes.resolve()
    assert patient.result(0) is True


def test_a_pass_that_makes_room_is_waited_for(waiting: Waiting) -> None:
    """While readings on disk are coalesced there will be room in a moment."""
    waiting.is_connected = False
    waiting.backlog.bound.is_at_work = True
    asked = waiting.flushes.ask(patient=False)
    waiting.tally.tries += 1
    waiting.flushes.ask_again(waiting.flushes.next_round())
    assert not asked.done()
    waiting.backlog.bound.is_at_work = False
    waiting.flushes.ask_again(waiting.flushes.next_round())
    assert asked.result(0) is False


def test_a_thread_that_hangs_is_seen(waiting: Waiting) -> None:
    """No round has ended since a wait timed out: a later wait has no more hope."""
    assert not waiting.flushes.is_stuck
    waiting.flushes.timed_out()
    assert waiting.flushes.is_stuck
    waiting.flushes.wait_for(0, [])
    assert not waiting.flushes.is_stuck


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


def test_whoever_has_stopped_waiting_hurries_nothing_any_more(waiting: Waiting) -> None:
    """After a deadline in an outage the pauses between tries grow as if nobody had asked."""
    packed, unpacked = waiting.flushes.ask(patient=True), waiting.flushes.ask(patient=True)
    first, second = waiting.flushes.next_round()
    waiting.flushes.wait_for(waiting.message.batch_number, [first])
    waiting.flushes.ask_again([second])
    packed.cancel()
    assert waiting.flushes.is_waited_for
    unpacked.cancel()
    assert not waiting.flushes.is_waited_for
    assert waiting.flushes.next_round() == []
