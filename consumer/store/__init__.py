"""The ledger on disk: everything that opens DuckDB or the data directory. Imports booking, and from pricing a type.

One process writes the ledger file; all others read the snapshots that it publishes.
"""
