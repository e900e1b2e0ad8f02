"""An answer becomes a table, JSON or CSV. Only `grid.py` imports rich."""
