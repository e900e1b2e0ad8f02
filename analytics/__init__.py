"""Reading the ledger: cost by tenant, agent, model or day, and SQL of one's own.

Nothing here writes, and nothing here can hold the ledger up: it reads published snapshots. The
public names are in `voicecosts`.
"""
