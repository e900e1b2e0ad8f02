"""The errors of the consumer: one tree, and messages that say what to do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from voicecosts.consumer import errors
from voicecosts.consumer.errors import LedgerError

EXAMPLES: Final[list[tuple[LedgerError, dict[str, object], str]]] = [
    (errors.InvalidConfig(["a", "b"]), {"problems": ("a", "b")}, "a; b"),
    (errors.InvalidPrices("p", ["p:1: a", "p:2: b"]), {"problems": ("p:1: a", "p:2: b")}, "a; p:2"),
    (errors.MissingExtra("local", "`costs up`"), {"extra": "local"}, "voicecosts[local]"),
    (errors.DataDirInUse(Path("d"), 7), {"path": Path("d"), "pid": 7}, "process 7"),
    (
        errors.AnotherStream(Path("d"), "consume", "up"),
        {"before": "consume", "now": "up"},
        "Run `costs consume` again, or leave that stream for good with `costs up --new-stream`",
    ),
    (errors.PortInUse(4222), {"port": 4222}, "Give another --port"),
    (errors.LedgerInUse(Path("l")), {"pid": None}, "another process"),
    (errors.LedgerNewer(Path("l"), 3, 1), {"found": 3, "known": 1}, "Upgrade voicecosts"),
    (
        errors.LedgerDamaged(Path("l"), "torn"),
        {"problem": "torn"},
        "of the newest snapshot that can be read",
    ),
    (errors.LedgerClosed(Path("l"), "it failed"), {"why": "it failed"}, "Open it again"),
    (errors.LedgerWriteFailed(Path("l"), "no"), {"problem": "no"}, "stay in the stream"),
    (
        errors.OperationRefused("2026-10 is closed already"),
        {"why": "2026-10 is closed already"},
        "Nothing was changed",
    ),
    (errors.LedgerBusy(Path("l"), 60.0), {"timeout_s": 60.0}, "within 60 s"),
    (
        errors.LedgerMissing(Path("l"), Path("d/costs-4.duckdb")),
        {"snapshot": Path("d/costs-4.duckdb")},
        "copy d/costs-4.duckdb to l",
    ),
    (
        errors.LedgerMissing(Path("d/ledger/l"), None),
        {"snapshot": None},
        "put a backup in its place; to begin anew, move ledger.json in d elsewhere",
    ),
    (errors.LedgerMoved(Path("l")), {"path": Path("l")}, "stay in the stream"),
    (errors.LedgerDiskFull(Path("l"), "full"), {"problem": "full"}, "stay in the stream"),
    (errors.LedgerOutOfMemory(Path("l"), "9 GB"), {"problem": "9 GB"}, "Start again: fewer"),
    (errors.SnapshotFailed(Path("d"), "no"), {"problem": "no"}, "Everything booked is safe"),
    (errors.RebuildFailed("it differs"), {"why": "it differs"}, "It is as it was"),
    (errors.BackupFailed(Path("b"), "full"), {"problem": "full"}, "run it again"),
    (
        errors.BackupRefused(Path("b"), "it is a file"),
        {"why": "it is a file"},
        "Give a new or empty",
    ),
    (errors.BackupInUse(Path("b"), 7), {"pid": 7}, "Process 7 makes a backup in b. Wait"),
    (errors.BrokerUnreachable(["nats://x"], "refused"), {"servers": ("nats://x",)}, "nats://x"),
    (
        errors.BrokerNotTrusted(["tls://x"], "it expired: set COSTS_TLS_CA to another"),
        {"servers": ("tls://x",)},
        "No TLS connection to tls://x: it expired: set --tls-ca (COSTS_TLS_CA) to another.",
    ),
    (
        errors.BrokerRefuses(["nats://x"], "Authorization Violation"),
        {"problem": "Authorization Violation"},
        "with --credentials (COSTS_CREDENTIALS)",
    ),
    (errors.BrokerFailed("it broke", code=10077), {"code": 10077}, "it broke (error 10077)"),
    (errors.StreamDrift("COSTS", ["a", "b"]), {"differences": ("a", "b")}, "a; b"),
    (
        errors.StreamClaimed("COSTS", holder="a copy", since=None, free_in_s=2.1),
        {"holder": "a copy", "free_in_s": 2.1},
        "start again in 3 s, or take the stream over with `costs consume --take-over`",
    ),
    (
        errors.StreamClaimed("COSTS", holder="a copy", since=None, free_in_s=None),
        {"free_in_s": None},
        "taken over by a copy",
    ),
    (
        errors.LedgerBehind("messages 2 to 9", "no right", "Allow it."),
        {"missing": "messages 2 to 9", "problem": "no right", "remedy": "Allow it."},
        "cannot read them again: no right. Allow it.",
    ),
]


@pytest.mark.parametrize(("error", "fields", "words"), EXAMPLES)
def test_an_error_has_its_facts_as_fields_and_says_what_to_do(
    error: LedgerError, fields: dict[str, object], words: str
) -> None:
    """Programs read fields, people read a sentence with the value and the next step."""
    assert {name: getattr(error, name) for name in fields} == fields
    assert words in str(error)


def test_the_drawn_tree_is_the_real_one() -> None:
    """The module's docstring names every error once, and nothing that does not exist."""
    drawn = re.findall(
        r"^\s*[│├└─ ]*([A-Z]\w+Error|[A-Z]\w+)(?:  |$)", str(errors.__doc__), re.MULTILINE
    )
    kinds = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, LedgerError)
    }
    assert sorted(drawn) == sorted(kinds)


def test_every_error_has_an_example() -> None:
    """An error that is added gets its sentence checked above."""
    roots = {errors.LedgerError, errors.BrokerError}
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type)} - roots
    assert {type(error) for error, _, _ in EXAMPLES} == {
        kind for kind in kinds if issubclass(kind, LedgerError)
    }
