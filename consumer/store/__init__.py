"""The ledger on disk: the only part of the consumer that knows DuckDB.

One process writes the ledger file; everybody else reads the snapshots that it publishes.
"""
