"""`python -m voicecosts` is the command `costs`."""

from __future__ import annotations

import gc

INTERRUPTED = 130


def main() -> None:
    """Run `costs`; Ctrl-C while it is loaded ends it without a word, since nothing was done.

    At its end Python would look through everything that was loaded once more, for 25 ms and more: nothing of it is
    to be found, as the process ends.
    """
    try:
        from voicecosts.analytics.commands.app import main as costs  # noqa: PLC0415 - see above

        costs()
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    finally:
        gc.freeze()


if __name__ == "__main__":
    main()
