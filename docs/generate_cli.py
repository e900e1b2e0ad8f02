"""Write docs/cli.md from the help of the command itself; `--check` fails when it is stale."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from voicecosts.analytics.commands.app import COMMANDS, load
from voicecosts.analytics.commands.exits import CODES

PAGE = Path(__file__).with_name("cli.md")

HEAD = """# The command `costs`

Generated from `--help` by `python docs/generate_cli.py`. Every command that touches the ledger takes
`--data-dir`; without it `COSTS_DATA_DIR` is used, and then the user's data folder
(`~/.local/share/voicecosts`, on macOS `~/Library/Application Support/voicecosts`).

Answers go to standard output, everything else to standard error. An error is one line that says
what to do; `COSTS_DEBUG=1` adds the traceback.

In JSON and CSV money is text with nine digits behind the point. Amounts are whole numbers, and what ends
in `_seconds` is a number with a fraction (`0.0`, `12.5`), exact to the microsecond. A moment is text in
UTC. What is unknown or absent is `null`, in CSV an empty field. Keys are only ever added.

JSON has names exactly as booked. A spreadsheet and a terminal act on some texts, so in CSV what would be
calculated begins with an apostrophe, one more than it has already, and a control character is spelled
out (`\\n`, `\\x1b`), with the backslashes before it, or before what looks like one, doubled: no two names
are alike, and each can be read back. A table also spells out what cannot be seen: blanks at an end
(`acme\\x20`), joiners of no width, accents that stand beside their letter.
"""


def help_of(*command: str) -> str:
    """Return what `costs … --help` prints at 100 columns."""
    environment = {**os.environ, "COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1"}
    shown = subprocess.run(  # noqa: S603 - this project's own command
        [sys.executable, "-P", "-m", "voicecosts", *command, "--help"],
        capture_output=True,
        check=True,
        text=True,
        env=environment,
        cwd=PAGE.parents[1],
    )
    return "\n".join(line.rstrip() for line in shown.stdout.strip().splitlines())


def page() -> str:
    """Return the whole page."""
    parts = [HEAD, "## costs\n", f"```text\n{help_of()}\n```\n"]
    for command in COMMANDS:
        parts += [f"## costs {command}\n", f"```text\n{help_of(command)}\n```\n"]
        for sub in getattr(load(command), "commands", {}):
            parts += [f"## costs {command} {sub}\n", f"```text\n{help_of(command, sub)}\n```\n"]
    parts += ["## Exit codes\n", "| code | meaning |\n| --- | --- |"]
    parts += ["\n".join(f"| {code} | {text} |" for code, text in CODES.items()) + "\n"]
    return "\n".join(parts)


def main() -> int:
    """Write the page, or compare it."""
    wanted = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(wanted)
        return 0
    if PAGE.exists() and PAGE.read_text() == wanted:
        return 0
    sys.stderr.write("docs/cli.md is stale: run `python docs/generate_cli.py`\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
