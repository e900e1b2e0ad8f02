"""From typed text to allow-listed SQL and parameters. Opens nothing."""
