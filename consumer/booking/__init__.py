"""From the bytes of a message to the rows that the ledger ought to hold. Pure."""
