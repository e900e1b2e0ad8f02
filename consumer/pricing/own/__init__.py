"""The operator's own prices: `prices.toml`, from its text to the charges of one meter.

The same file gives the same answer, in whatever order its entries stand. A file with a mistake gives
no book at all, and every mistake in it is named with its line and what to do. One function opens a
file (`load`); the rest is pure.
"""

from voicecosts.consumer.pricing.own.book import OwnBook, load, read

__all__ = ["OwnBook", "load", "read"]
