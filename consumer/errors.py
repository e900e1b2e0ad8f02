"""Everything that can stop the ledger, as one tree.

    LedgerError
    ├── InvalidConfig           settings that cannot work, all of them at once
    ├── InvalidPrices           a price file with mistakes, all of them at once
    ├── MissingExtra            a part of the installation is missing
    ├── DataDirInUse            another process owns the data directory's broker store
    ├── AnotherStream           the ledger reads the stream of the other way to run it
    ├── PortInUse               another program listens on the port that was asked for
    ├── LedgerInUse             another process holds the ledger file
    ├── LedgerBusy              the ledger that runs did not answer in time
    ├── OperationRefused        what is asked of the books cannot be done, and nothing was changed
    ├── RebuildFailed           the ledger could not be made anew, and is as it was
    ├── LedgerNewer             the ledger was written by a newer version
    ├── LedgerDamaged           the ledger file cannot be read
    ├── LedgerMissing           there was a ledger, and its file is gone
    ├── LedgerClosed            the ledger was closed, or failed before and must be opened again
    ├── LedgerWriteFailed       a transaction did not commit: its messages must not be acked
    │   ├── LedgerDiskFull      because there is no room
    │   ├── LedgerMoved         because the open file has lost its name
    │   └── LedgerOutOfMemory   because there is too little memory
    ├── SnapshotFailed          no new snapshot; what is booked is safe
    ├── BackupFailed            no new backup; those that are there are as they were
    ├── BackupRefused           a folder is not one for backups of this ledger
    │   └── BackupInUse         because another backup is being made in it
    └── BrokerError
        ├── BrokerUnreachable   no connection
        │   ├── BrokerNotTrusted   because TLS failed, or a certificate is refused
        │   └── BrokerRefuses      because these credentials are not let in, or lack a right
        ├── BrokerFailed        the broker answered with an error, or died
        ├── StreamDrift         the stream is not configured as we need it
        ├── StreamClaimed       another ledger reads the stream
        └── LedgerBehind        messages are missing, and they cannot be read again

Every error has its facts as fields, and a message that says what happened and what to do.
"""
# ruff: noqa: N818 - the names say what happened, `LedgerInUse` needs no suffix to be an error

from __future__ import annotations

import math
import shlex
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path


class LedgerError(Exception):
    """The root of all errors of the consumer."""


class InvalidConfig(LedgerError):
    """Settings that cannot work; `problems` lists all of them."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("The settings are invalid: " + "; ".join(self.problems) + ".")


class InvalidPrices(LedgerError):
    """A file of own prices cannot be used; `problems` lists every mistake with its line and cure."""

    def __init__(self, name: str, problems: Sequence[str]) -> None:
        self.name = name
        self.problems = tuple(problems)
        super().__init__("The prices cannot be used: " + "; ".join(self.problems) + ".")


class MissingExtra(LedgerError):
    """A part of the installation that `purpose` needs is missing."""

    def __init__(self, extra: str, purpose: str) -> None:
        self.extra = extra
        self.purpose = purpose
        super().__init__(f"{purpose} needs the extra '{extra}': pip install 'voicecosts[{extra}]'")


class DataDirInUse(LedgerError):
    """Another process runs its own broker on this data directory."""

    def __init__(self, path: Path, pid: int | None = None) -> None:
        self.path = path
        self.pid = pid
        super().__init__(f"{path} is in use by {_holder(pid)}. Stop it, or use another --data-dir.")


class AnotherStream(LedgerError):
    """The ledger reads one stream and was started on another: `before` and `now` are the commands."""

    def __init__(self, data_dir: Path, before: str, now: str) -> None:
        self.data_dir = data_dir
        self.before = before
        self.now = now
        super().__init__(
            f"The ledger in {data_dir} reads the stream of `costs {before}`, and `costs {now}` has "
            f"another one: what waits in the first would never be booked. Run `costs {before}` again, "
            f"or leave that stream for good with `costs {now} --new-stream`."
        )


class PortInUse(LedgerError):
    """Another program listens on the port that was asked for."""

    def __init__(self, port: int) -> None:
        self.port = port
        super().__init__(
            f"Another program listens on port {port} (`ss -ltnp 'sport = :{port}'` shows which). "
            "Give another --port, or none to get a free one."
        )


class LedgerInUse(LedgerError):
    """Another process holds the ledger; there is one writer at a time."""

    def __init__(self, path: Path, pid: int | None = None) -> None:
        self.path = path
        self.pid = pid
        super().__init__(
            f"The ledger {path} is in use by {_holder(pid)}. Stop it first, or read the snapshot "
            "costs.duckdb, which any number of readers may open."
        )


class LedgerBusy(LedgerError):
    """The ledger that runs did not answer in time; nothing is asked of it any more.

    If it `took` what it was asked, it may have done it. What `is_once` may be asked again all the same.
    """

    def __init__(
        self, path: Path, timeout_s: float, *, took: bool = False, is_once: bool = False
    ) -> None:
        self.path = path
        self.timeout_s = timeout_s
        self.took = took
        self.is_once = is_once
        advice = "stop it and ask again: without a ledger that runs, the command does it itself"
        if took and is_once:
            advice = (
                "run the same command again, with the same words: what it may have done already is not "
                "done twice, and the answer names the operation"
            )
        elif took:
            advice = (
                "do not ask again before you know: it took what was asked and may have done it, or may "
                "do it yet; `costs operations` and `costs dead-letters list` show what was done"
            )
        super().__init__(
            f"The ledger in {path} did not answer within {timeout_s:g} s. Look at its log, and {advice}."
        )


class OperationRefused(LedgerError):
    """An operation on the books cannot be done: `why` says what is in its way. Nothing was changed."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(f"{why[:1].upper()}{why[1:]}. Nothing was changed.")


class RebuildFailed(LedgerError):
    """The ledger could not be compared or made anew: `why` says what is in the way. It is as it was."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(f"The ledger could not be compared or made anew: {why}. It is as it was.")


class LedgerNewer(LedgerError):
    """The ledger was written by a newer version; it was not touched.

    `found` and `known` are schema versions, or words where the file format itself is newer.
    """

    def __init__(self, path: Path, found: int | str, known: int | str) -> None:
        self.path = path
        self.found = found
        self.known = known
        super().__init__(
            f"The ledger {path} was written by a newer version: it has {_version(found)}, and this "
            f"installation reads {_version(known)}. Nothing was changed. Upgrade voicecosts and "
            "duckdb, or use another --data-dir."
        )


class LedgerDamaged(LedgerError):
    """The ledger file cannot be read."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(
            f"The ledger {path} cannot be read: {problem.rstrip('.!')}. `costs rebuild --data-dir "
            f"{shlex.quote(str(path.parent.parent))}` makes it anew of the newest snapshot that can be read, and keeps "
            "the file. What was published after that snapshot is read again from the stream when the ledger starts; "
            "what was booked after it from outboxes of this host is missing. Check the disk as well."
        )


class LedgerMissing(LedgerError):
    """The data directory has snapshots of a ledger, or tells of one, and the ledger itself is gone."""

    def __init__(self, path: Path, snapshot: Path | None) -> None:
        self.path = path
        self.snapshot = snapshot
        if snapshot is None:
            super().__init__(
                f"The ledger {path} is gone, and so are its snapshots. What was used is not known "
                f"without them: put a backup in its place; to begin anew, move ledger.json in "
                f"{path.parent.parent} elsewhere. Then try again."
            )
            return
        super().__init__(
            f"The ledger {path} is gone, but {snapshot} is there. A new ledger would replace what "
            f"readers see by nothing. To go on with what was booked, copy {snapshot} to {path}; to "
            f"begin anew, move all *.duckdb files and ledger.json in {snapshot.parent} elsewhere. Then "
            "try again."
        )


class LedgerClosed(LedgerError):
    """The ledger was closed, or failed before; open it again."""

    def __init__(self, path: Path, why: str) -> None:
        self.path = path
        self.why = why
        super().__init__(f"The ledger {path} cannot be used any more: {why}. Open it again.")


class LedgerWriteFailed(LedgerError):
    """A transaction did not commit. Its messages must not be acked; open the ledger again."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(
            f"The ledger {path} could not be written: {problem}. The messages stay in the stream, "
            "or in the outbox that they came from. Correct the cause and start again."
        )


class LedgerDiskFull(LedgerWriteFailed):
    """There is no room for a transaction, or for what is asked of the ledger."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        self.problem = problem
        LedgerError.__init__(
            self,
            f"There is no room to write {path}: {problem}. Nothing is lost: what is booked is safe, and messages "
            "that are not stay in the stream, or in the outbox that they came from. Make room on that disk, and "
            "start again, or run the same command again: what it did already is not done twice.",
        )


class LedgerMoved(LedgerWriteFailed):
    """The open file was removed, moved or replaced; what goes into it is lost."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "")
        LedgerError.__init__(
            self,
            f"The file {path} was removed, moved or replaced while the ledger had it open. Nothing "
            "more is booked, and messages since then stay in the stream, or in the outbox that they "
            "came from. Put the file back and start again; if it is lost, start again as well, and "
            "the error then says how to go on from a snapshot.",
        )


class LedgerOutOfMemory(LedgerWriteFailed):
    """A transaction did not commit because there is too little memory for it."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        self.problem = problem
        LedgerError.__init__(
            self,
            f"The ledger {path} has too little memory: {problem}. The messages stay in the stream, "
            "or in the outbox that they came from. Start again: fewer of them are then booked at a "
            "time. If that repeats itself, give it 1 GB of memory.",
        )


class SnapshotFailed(LedgerError):
    """No new snapshot could be published. What is booked is safe; readers keep the last one."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(
            f"No snapshot could be published in {path}: {problem}. Everything booked is safe in "
            "the ledger. Free disk space or correct the permissions: a ledger that runs then publishes by "
            "itself, and a command has to be run again."
        )


class BackupFailed(LedgerError):
    """A backup could not be made. Those that are in the folder are as they were."""

    def __init__(self, folder: Path, problem: str) -> None:
        self.folder = folder
        self.problem = problem
        super().__init__(
            f"The backup in {folder} failed: {problem}. What is there already is as it was, and the ledger "
            "as well. Correct that, and run it again."
        )


class BackupRefused(LedgerError):
    """A folder is not one for backups of this ledger; nothing was written."""

    def __init__(self, folder: Path, why: str) -> None:
        self.folder = folder
        self.why = why
        super().__init__(
            f"No backup is made in {folder}: {why}. Give a new or empty directory, on another disk than the ledger's."
        )


class BackupInUse(BackupRefused):
    """Another backup is being made in the folder."""

    def __init__(self, folder: Path, pid: int | None) -> None:
        super().__init__(folder, "")
        self.pid = pid
        self.args = (
            f"{_holder(pid).capitalize()} makes a backup in {folder}. Wait until it has ended, and run this again.",
        )


class BrokerError(LedgerError):
    """The root of what can go wrong between the ledger and the broker."""


class BrokerUnreachable(BrokerError):
    """No connection to the broker."""

    def __init__(self, servers: Sequence[str], problem: str) -> None:
        self.servers = tuple(servers)
        self.problem = problem
        super().__init__(
            f"No NATS server answers at {', '.join(self.servers)}: {problem}. "
            "Check --servers (COSTS_SERVERS) and the network, or run `costs up`, which starts its "
            "own server."
        )


_OPTIONS: Final = {
    "COSTS_TLS_CA": "--tls-ca (COSTS_TLS_CA)",
    "COSTS_TLS_CERT": "--tls-cert (COSTS_TLS_CERT)",
    "COSTS_TLS_KEY": "--tls-key (COSTS_TLS_KEY)",
}
"""What a command calls the variables that a worker is told of."""


class BrokerNotTrusted(BrokerUnreachable):
    """A server answers, and TLS with it failed: a certificate is refused, or there is no TLS."""

    def __init__(self, servers: Sequence[str], problem: str) -> None:
        super().__init__(servers, problem)
        cure = problem
        for variable, option in _OPTIONS.items():
            cure = cure.replace(variable, option)
        self.args = (f"No TLS connection to {', '.join(self.servers)}: {cure}.",)


class BrokerRefuses(BrokerUnreachable):
    """A server answers, and does not let these credentials in, or do what a ledger does."""

    def __init__(self, servers: Sequence[str], problem: str) -> None:
        super().__init__(servers, problem)
        said = (
            f"The NATS server at {', '.join(self.servers)} refuses: {problem}. Give credentials that "
            "it knows, with --credentials (COSTS_CREDENTIALS) or as user:password@ or token@ in "
            "--servers (COSTS_SERVERS); docs/security.md lists the rights that a ledger needs."
        )
        self.args = (said,)


class BrokerFailed(BrokerError):
    """The broker answered with an error, or ended."""

    def __init__(self, problem: str, *, code: int | None = None) -> None:
        self.problem = problem
        self.code = code
        suffix = "" if code is None else f" (error {code})"
        super().__init__(f"The NATS server failed: {problem}{suffix}. See its log.")


class StreamDrift(BrokerError):
    """The stream on the server is not configured as we need it; nothing was changed."""

    def __init__(self, name: str, differences: Sequence[str]) -> None:
        self.name = name
        self.differences = tuple(differences)
        super().__init__(
            f"The stream {name} differs from what the ledger needs: {'; '.join(self.differences)}. "
            "Nothing was changed. Correct the stream, or delete it if nothing in it is needed."
        )


class StreamClaimed(BrokerError):
    """Another ledger reads the stream: `holder` says which, `since` when it began.

    `free_in_s` is when its claim runs out unless it lives; None when it took over from this ledger.
    """

    def __init__(
        self, name: str, *, holder: str, since: datetime | None, free_in_s: float | None
    ) -> None:
        self.name = name
        self.holder = holder
        self.since = since
        self.free_in_s = free_in_s
        began = "" if since is None else f" since {since:%Y-%m-%d %H:%M:%S} UTC"
        if free_in_s is None:
            text = (
                f"The stream {name} was taken over by {holder}{began}. This ledger ends, so that the "
                "two do not share the messages. What it booked is safe. Run one of them; "
                "`costs consume --take-over` takes the stream back."
            )
        else:
            text = (
                f"The stream {name} is read by {holder}{began}. Two ledgers would share its messages "
                "between them, so this one did not read any. Stop that ledger first. If it has ended "
                f"already, start again in {math.ceil(free_in_s)} s, or take the stream over with "
                "`costs consume --take-over`."
            )
        super().__init__(text)


class LedgerBehind(BrokerError):
    """Messages are missing in the ledger, and `problem` keeps it from reading them again."""

    def __init__(self, missing: str, problem: str, remedy: str) -> None:
        self.missing = missing
        self.problem = problem
        self.remedy = remedy
        super().__init__(
            f"The ledger has not booked {missing} of the stream, which were handed out before, and "
            f"it cannot read them again: {problem}. {remedy}"
        )


def _holder(pid: int | None) -> str:
    return "another process" if pid is None else f"process {pid}"


def _version(found: int | str) -> str:
    return found if isinstance(found, str) else f"version {found}"
