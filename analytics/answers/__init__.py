"""A checked question and a snapshot become an answer."""
