"""`costs consume` as it is, in a process that dies when it reads one body, as of a fault in a library.

python -m tests.support.deadly_ledger consume --servers … --data-dir …
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, Final

import voicecosts.consumer.booking.pieces
from voicecosts.analytics.commands import app
from voicecosts.consumer.booking.message import Message

BODY: Final = b"deadly"


def main(arguments: list[str]) -> None:
    """Run the command until it dies or is ended."""
    module: Any = voicecosts.consumer.booking.pieces
    read = module.read

    def deadly(message: Message) -> Any:
        if message.data == BODY:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(message)

    module.read = deadly
    sys.argv = ["costs", *arguments]
    app.main()


if __name__ == "__main__":
    main(sys.argv[1:])
