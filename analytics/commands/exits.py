"""From an error to an exit code and one line on standard error. The codes are public.

Error classes are listed by name, so that explaining an error of one package loads no other package.
A class that is not listed has the code of its nearest parent.
`COSTS_DEBUG=1` adds the traceback.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import sys
import traceback
from typing import TYPE_CHECKING, Final, TextIO

from typer.exceptions import Abort, TyperException

from voicecosts.analytics.commands.options import named_folder
from voicecosts.analytics.commands.signals import is_ctrl_c
from voicecosts.analytics.config import is_debug
from voicecosts.analytics.text.advice import at_ledger
from voicecosts.analytics.text.grid import printable, wrapped

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from _typeshed import ReadableBuffer

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NO_LEDGER: Final = 3
LEDGER_NEWER: Final = 4
UNREACHABLE: Final = 5
MISSING_EXTRA: Final = 6
IN_USE: Final = 7
DRIFT: Final = 8
OVER: Final = 9
INTERRUPTED: Final = 130
CUT_OFF: Final = 141

CODES: Final[dict[int, str]] = {
    OK: "success",
    FAILED: "a check failed, or something unexpected happened",
    USAGE: "the command or a setting is wrong",
    NO_LEDGER: "there is no ledger to read",
    LEDGER_NEWER: "the ledger is newer than this version",
    UNREACHABLE: "NATS cannot be reached",
    MISSING_EXTRA: "an extra is not installed",
    IN_USE: "the data directory, the ledger, the port or the stream is in use",
    DRIFT: "the stream is not configured as it must be",
    OVER: "the costs are over the amount of --fail-over",
}
"""What each code means; `costs --help` prints this."""

EXIT_CODES: Final[dict[str, int]] = {
    "voicecosts.analytics.errors.AnalyticsError": FAILED,
    "voicecosts.analytics.errors.BadQuestion": USAGE,
    "voicecosts.analytics.errors.NoLedger": NO_LEDGER,
    "voicecosts.analytics.errors.LedgerNewer": LEDGER_NEWER,
    "voicecosts.analytics.errors.LedgerInUse": IN_USE,
    "voicecosts.analytics.errors.MissingExtra": MISSING_EXTRA,
    "voicecosts.analytics.errors.PortTaken": IN_USE,
    "voicecosts.analytics.commands.demo.BadFolder": USAGE,
    "voicecosts.analytics.commands.exits.OutputLost": FAILED,
    "voicecosts.consumer.errors.LedgerError": FAILED,
    "voicecosts.consumer.errors.InvalidConfig": USAGE,
    "voicecosts.consumer.errors.OperationRefused": FAILED,
    "voicecosts.consumer.errors.InvalidPrices": USAGE,
    "voicecosts.consumer.errors.AnotherStream": USAGE,
    "voicecosts.consumer.errors.LedgerNewer": LEDGER_NEWER,
    "voicecosts.consumer.errors.LedgerInUse": IN_USE,
    "voicecosts.consumer.errors.DataDirInUse": IN_USE,
    "voicecosts.consumer.errors.PortInUse": IN_USE,
    "voicecosts.consumer.errors.BackupRefused": USAGE,
    "voicecosts.consumer.errors.BackupInUse": IN_USE,
    "voicecosts.consumer.errors.MissingExtra": MISSING_EXTRA,
    "voicecosts.consumer.errors.BrokerUnreachable": UNREACHABLE,
    "voicecosts.consumer.errors.StreamDrift": DRIFT,
    "voicecosts.consumer.errors.StreamClaimed": IN_USE,
    "voicecosts.producer.errors.ProducerError": FAILED,
    "voicecosts.producer.errors.ConfigError": USAGE,
    "voicecosts.producer.settings.NoHomeDirectory": USAGE,
    # Typer keeps its own classes in a private module and gives its usage errors this one.
    "typer._click.exceptions.UsageError": USAGE,
    "typer.exceptions.TyperException": FAILED,
}


_STDERR: Final = 2


class OutputLost(Exception):  # noqa: N818 - it says what happened
    """Standard output cannot be written. Not an `OSError`, of which Typer explains some itself."""

    def __init__(self, error: OSError) -> None:
        self.is_cut_off = error.errno == errno.EPIPE
        why = "it is closed" if error.errno == errno.EBADF else error.strerror
        super().__init__(
            f"standard output cannot be written ({why}): the answer is not complete. "
            "Write it elsewhere, and ask again"
        )


class _StandardOutput(io.FileIO):
    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            raise OutputLost(error) from error


class _StandardError(io.FileIO):
    def write(self, data: ReadableBuffer, /) -> int:
        with contextlib.suppress(OSError):  # there is nowhere left to complain
            super().write(data)
        return memoryview(data).nbytes


def own_standard_streams() -> None:
    """Make the standard streams of this process usable, whatever it was given.

    A closed one gets its number back: else the next file would get it, and with it what is written
    to it. Standard output that cannot be written is `OutputLost`; what cannot be written to standard
    error is lost.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)  # it gets the lowest number that is free: this one
    sys.stdout = _text(_StandardOutput(1, "w", closefd=False), sys.stdout)
    sys.stderr = _text(_StandardError(2, "w", closefd=False), sys.stderr)


def _text(file: io.FileIO, like: TextIO | None) -> TextIO:
    return io.TextIOWrapper(
        io.BufferedWriter(file),
        encoding=like.encoding if like else "utf-8",
        errors="backslashreplace",  # a name that an old terminal cannot show must not end a command
        line_buffering=file.fileno() == _STDERR or file.isatty(),
    )


_NO_NUMBER: Final = re.compile(r" is not a valid int(eger)?( range)?\.?$")
"""How Typer names a type of Python."""

_NEGATIVE: Final = re.compile(r"No such option: -\d")

_MEANT: Final = {
    "--group-by": "--by",
    "--filter": "--where",
    "--from": "--since",
    "--to": "--until",
    "--limit": "--top",
    "--order-by": "--sort",
}
"""Options that other programs have, and what they are called here."""

_UNANSWERED: Final = "nobody answered, so nothing was changed: pass --yes where nobody can answer"

_HELP_WANTED: Final = "NoArgsIsHelpError"
"""Typer's error for a group of commands without a command: its text is the help page."""


def run(command: Callable[[], int | None]) -> int:
    """Run a command, flush what it wrote, and return the exit code of how it ended."""
    try:
        code = command()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - whatever it is, a user gets one line
        if is_ctrl_c(error):
            return INTERRUPTED
        return _end(_cause(error))
    return code if isinstance(code, int) else OK


def _cause(error: Exception) -> Exception:
    """Return what went wrong first where tasks that ran at the same time ended together."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _end(error: Exception) -> int:
    """Return the exit code of an error, and say what happened unless a reader has just gone away."""
    if isinstance(error, BrokenPipeError | OutputLost):
        discard_output()
    if isinstance(error, BrokenPipeError) or (isinstance(error, OutputLost) and error.is_cut_off):
        return CUT_OFF  # the reader of a pipe has ended, as `head` does
    return explain(error, named_folder())


def explain(error: Exception, folder: Path | None = None) -> int:
    """Say what happened in one line on standard error and return its exit code.

    Commands that it advises ask the ledger of `folder`, where one was named.
    """
    code = code_of(error)
    debug = is_debug()
    if debug:
        traceback.print_exception(error)
    text = _said_by_typer(error) if isinstance(error, TyperException) else str(error)
    if isinstance(error, Abort):  # Ctrl-C, Ctrl-D or no terminal at a question
        sys.stderr.write("\n")  # the question has no end of its line
        if isinstance(error.__context__, KeyboardInterrupt):
            return _fail("nothing was changed", INTERRUPTED, is_error=False)
        return _fail(_UNANSWERED, FAILED)
    if type(error).__name__ == _HELP_WANTED:
        return _fail(text, USAGE, is_error=False)
    if code is None:
        hint = "" if debug else " (COSTS_DEBUG=1 shows where)"
        text = f"unexpected {type(error).__name__}: {text}{hint}"
    text = " ".join(text.split())
    if code != MISSING_EXTRA:  # that one names the command that was run
        text = at_ledger(text, folder)
    return _fail(printable(text), FAILED if code is None else code)


def _said_by_typer(error: TyperException) -> str:
    """Return Typer's message, with where to look when a word of the command is unknown or missing."""
    text = error.format_message().removeprefix("Invalid value: ")
    text = _NO_NUMBER.sub(" is no whole number: write it in digits, such as 5", text)
    if _NEGATIVE.match(text):
        return (
            f"{text.rstrip('.')}: give a number below zero with its option, as in --amount -12.50"
        )
    context = getattr(error, "ctx", None)
    unknown = text.removeprefix("No such option: ").split()[0].rstrip(".")
    meant = _MEANT.get(unknown)
    if meant and context and any(meant in it.opts for it in context.command.params):
        return f"No such option: {unknown}: did you mean {meant}?"
    if context is None or text.endswith("?") or not text.startswith(("No such ", "Missing ")):
        return text
    return f"{text.rstrip('.')}: `{context.command_path} --help` shows what there is"


def _fail(text: str, code: int, *, is_error: bool = True) -> int:
    """Write a text to standard error and return the code; an error is folded between words on a terminal."""
    if is_error:
        text = "\n".join(wrapped(f"error: {text}", _width()))
    sys.stderr.write(f"{text}\n")
    return code


def _width() -> int | None:
    """Return the width of the terminal that standard error is; anything else has none."""
    if not sys.stderr.isatty():
        return None
    with contextlib.suppress(OSError):
        return os.get_terminal_size(sys.stderr.fileno()).columns or None
    return None


def discard_output() -> None:
    """Let what is written to standard output from now on, or still waits, go nowhere.

    Python would complain about it again at its own exit.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def code_of(error: Exception) -> int | None:
    """Return the exit code of an error that is raised on purpose, None for any other."""
    for kind in type(error).__mro__:
        code = EXIT_CODES.get(f"{kind.__module__}.{kind.__qualname__}")
        if code is not None:
            return code
    return None
