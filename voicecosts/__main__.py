"""`python -m voicecosts` is the command `costs`."""

from __future__ import annotations

INTERRUPTED = 130


def main() -> None:
    """Run `costs`; Ctrl-C while it is loaded ends it without a word, since nothing was done."""
    try:
        from voicecosts.analytics.commands.app import main as costs  # noqa: PLC0415 - see above
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    costs()


if __name__ == "__main__":
    main()
