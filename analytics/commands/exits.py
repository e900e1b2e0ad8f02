"""From an error to an exit code and one line on standard error. The codes are public.

Error classes are listed by name, so that explaining an error of one package loads no other package.
A class that is not listed has the code of its nearest parent.
`COSTS_DEBUG=1` adds the traceback.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from typing import TYPE_CHECKING, Final

from typer.exceptions import TyperException

from voicecosts.analytics.config import is_debug

if TYPE_CHECKING:
    from collections.abc import Callable

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NO_LEDGER: Final = 3
LEDGER_NEWER: Final = 4
UNREACHABLE: Final = 5
MISSING_EXTRA: Final = 6
IN_USE: Final = 7
DRIFT: Final = 8
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
    IN_USE: "the data directory or the ledger is in use",
    DRIFT: "the stream is not configured as it must be",
}
"""What each code means; `costs --help` prints this."""

EXIT_CODES: Final[dict[str, int]] = {
    "voicecosts.analytics.errors.AnalyticsError": FAILED,
    "voicecosts.analytics.errors.BadQuestion": USAGE,
    "voicecosts.analytics.errors.NoLedger": NO_LEDGER,
    "voicecosts.analytics.errors.LedgerNewer": LEDGER_NEWER,
    "voicecosts.analytics.errors.LedgerInUse": IN_USE,
    "voicecosts.analytics.errors.MissingExtra": MISSING_EXTRA,
    "voicecosts.analytics.commands.demo.BadFolder": USAGE,
    "voicecosts.consumer.errors.LedgerError": FAILED,
    "voicecosts.consumer.errors.InvalidConfig": USAGE,
    "voicecosts.consumer.errors.LedgerNewer": LEDGER_NEWER,
    "voicecosts.consumer.errors.LedgerInUse": IN_USE,
    "voicecosts.consumer.errors.DataDirInUse": IN_USE,
    "voicecosts.consumer.errors.MissingExtra": MISSING_EXTRA,
    "voicecosts.consumer.errors.BrokerUnreachable": UNREACHABLE,
    "voicecosts.consumer.errors.StreamDrift": DRIFT,
    "voicecosts.producer.errors.ProducerError": FAILED,
    "voicecosts.producer.errors.ConfigError": USAGE,
    "voicecosts.producer.settings.NoHomeDirectory": USAGE,
    # Typer keeps its own classes in a private module and gives its usage errors this one.
    "typer._click.exceptions.UsageError": USAGE,
    "typer.exceptions.TyperException": FAILED,
}


_HELP_WANTED: Final = "NoArgsIsHelpError"
"""Typer's error for a group of commands without a command: its text is the help page."""


def run(command: Callable[[], int | None]) -> int:
    """Run a command, flush what it wrote, and return the exit code of how it ended."""
    for stream in (sys.stdout, sys.stderr):
        # A name that an old terminal cannot show is written with escapes instead of failing.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = command()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe has ended, as `head` does. Python would complain again at its own exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CUT_OFF
    except Exception as error:  # noqa: BLE001 - whatever it is, a user gets one line
        return explain(error)
    return code if isinstance(code, int) else OK


def explain(error: Exception) -> int:
    """Say what happened in one line on standard error and return its exit code."""
    code = code_of(error)
    debug = is_debug()
    if debug:
        traceback.print_exception(error)
    text = error.format_message() if isinstance(error, TyperException) else str(error)
    if type(error).__name__ == _HELP_WANTED:
        sys.stderr.write(f"{text}\n")
        return USAGE
    if code is None:
        hint = "" if debug else " (COSTS_DEBUG=1 shows where)"
        text = f"unexpected {type(error).__name__}: {text}{hint}"
    sys.stderr.write(f"error: {' '.join(text.split())}\n")
    return FAILED if code is None else code


def code_of(error: Exception) -> int | None:
    """Return the exit code of an error that is raised on purpose, None for any other."""
    for kind in type(error).__mro__:
        code = EXIT_CODES.get(f"{kind.__module__}.{kind.__qualname__}")
        if code is not None:
            return code
    return None
