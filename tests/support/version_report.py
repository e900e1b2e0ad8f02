"""What the installed livekit-agents reports, beside what the providers counted themselves.

`python -m tests.support.version_report` prints one JSON object: the version; the sentence with which
it is refused, or the quantities that it does not report; for each situation of `version_calls.py`
the amounts (as in `COLUMNS`) and what is wrong with them. `.ci/livekit-versions` runs it in an
environment for each version.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any, Final

from msgspec.structs import asdict

from tests.support.conservation import (
    Amounts,
    added,
    billed,
    counted,
    estimated_total,
    measured_total,
)
from tests.support.recorder import Recorder
from tests.support.version_calls import SITUATIONS, Situation
from voicecosts.producer.capture import installed
from voicecosts.producer.capture.supported import unreported_quantities
from voicecosts.producer.errors import ConfigError
from voicecosts.producer.events import MeterTotals, decode
from voicecosts.producer.observer import CostObserver
from voicecosts.producer.outbox.log import LocalLog
from voicecosts.producer.process import PROCESS

COLUMNS: Final = ("billed", "received", "measured", "estimated", "unattributed")
"""The amounts of a row: by the providers' own books, then by ours."""

UNREPORTED: Final = unreported_quantities(installed.FIELDS_OF)
"""What this version has no field for."""

_DEADLINE_S: Final = 60.0
_LINGER_S: Final = 2.0
"""How long after a session's end it may still be heard, with room."""


async def tried(observer: CostObserver, situation: Any) -> tuple[Situation, Amounts, str]:
    """Run a situation; return it, what it left unattributed, and why it failed, or nothing."""
    before = _amounts(observer.stats().unattributed_usage)
    made = Situation(observer)
    problem = ""
    try:
        async with asyncio.timeout(_DEADLINE_S):
            await asyncio.create_task(situation(made))
    except Exception:  # noqa: BLE001 - whatever a version does is the result
        problem = traceback.format_exc(limit=-4)
    after = _amounts(observer.stats().unattributed_usage)
    return made, _less(after, before), problem


def result_of(made: Situation, unattributed: Amounts, events: list[Any]) -> dict[str, Any]:
    """Return the rows of a situation, and what is wrong with them and with its sessions."""
    ids = set(made.sessions.values())
    recorder = Recorder()
    recorder.events = [each for each in events if getattr(each, "session_id", None) in ids]
    parts = (
        counted(*made.providers),
        counted(*made.providers, received=True),
        measured_total(recorder),
        estimated_total(recorder),
        unattributed,
    )
    rows = [
        [modality, quantity, *(_in(part, modality, quantity) for part in parts)]
        for modality, quantity in _keys(*parts)
    ]
    wrong = [
        f"{modality} {quantity}: billed {bill}, received {received}, booked {sum(booked)}"
        for modality, quantity, bill, received, *booked in rows
        if not (
            sum(booked) == 0
            if quantity in UNREPORTED.get(modality, ())
            else _is_conserved(
                made, quantity, bill, received if made.is_interrupted else bill, booked
            )
        )
    ]
    for call in made.sessions:
        wrong += _wrong_session(made, recorder, call)
    return {"rows": rows, "wrong": wrong}


def _is_conserved(made: Situation, quantity: str, least: int, most: int, booked: list[int]) -> bool:
    """Whether all is booked that was billed; of what was cut off, no more than was received.

    Each session rounds its times to a microsecond.
    """
    margin = 2 + len(made.sessions) if quantity.endswith("_us") else 0
    return least - margin <= sum(booked) <= most + margin


def _wrong_session(made: Situation, recorder: Recorder, call: int) -> list[str]:
    """Return what is wrong with the readings and the end of the session of a call."""
    session_id = made.sessions[call]
    ends = [end for end in recorder.ends() if end.session_id == session_id]
    wrong = [] if len(ends) == 1 else [f"call {call} has {len(ends)} ends"]
    wrong += [f"call {call}: {end.unmeasured} events unmeasured" for end in ends if end.unmeasured]
    if made.is_interrupted:
        return wrong  # a request that was cut off is measured as one, and billed in no book
    bill, booked = billed(call, *made.providers), recorder.totals(session_id)
    for modality, quantity in _keys(bill, booked):
        is_reported = quantity not in UNREPORTED.get(modality, ())
        expected = _in(bill, modality, quantity) if is_reported else 0
        measured = _in(booked, modality, quantity)
        margin = 2 if quantity.endswith("_us") else 0
        if abs(measured - expected) > margin:
            wrong.append(f"call {call}: {modality} {quantity}: {expected}, measured {measured}")
    return wrong


def _keys(*parts: Amounts) -> list[tuple[str, str]]:
    return sorted(
        {(modality, quantity) for part in parts for modality in part for quantity in part[modality]}
    )


def _in(amounts: Amounts, modality: str, quantity: str) -> int:
    return amounts.get(modality, {}).get(quantity, 0)


def _amounts(meters: tuple[MeterTotals, ...]) -> Amounts:
    return added(*({meter.modality: asdict(meter.totals)} for meter in meters))


def _less(amounts: Amounts, before: Amounts) -> Amounts:
    rest = {
        modality: {
            quantity: amount - _in(before, modality, quantity) for quantity, amount in of.items()
        }
        for modality, of in amounts.items()
    }
    return added(rest)


def stored(folder: Path) -> list[Any]:
    """Return every event in the outbox."""
    events: list[Any] = []
    log = LocalLog(folder, folder.parent, now_us=lambda: 0)
    with contextlib.closing(log):
        while group := log.next_group():
            for _, data in group:
                events += decode(data).events
            log.booked()
    return events


async def main() -> dict[str, Any]:
    """Return what this version of livekit-agents does."""
    report: dict[str, Any] = {"version": installed.VERSION, "refused": "", "situations": {}}
    with tempfile.TemporaryDirectory() as folder:
        try:
            observer = CostObserver(
                project="versions", servers=(), outbox_dir=Path(folder) / "outbox"
            )
        except ConfigError as error:
            return {**report, "refused": str(error)}
        report["unreported"] = UNREPORTED
        made = {each.__name__: await tried(observer, each) for each in SITUATIONS}
        await asyncio.sleep(_LINGER_S)
        assert await observer.flush(10.0), "the events could not be stored"
        events = stored(Path(folder) / "outbox")
        await asyncio.to_thread(PROCESS.close)
    for name, (situation, unattributed, problem) in made.items():
        report["situations"][name] = {
            **result_of(situation, unattributed, events),
            "problem": problem,
        }
    return report


if __name__ == "__main__":
    json.dump(asyncio.run(main()), sys.stdout)
