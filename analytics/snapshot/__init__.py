"""Finding and opening a published snapshot. The only room that connects to DuckDB."""
