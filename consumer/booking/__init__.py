"""From the bytes of a message to the rows that the ledger ought to hold.

Pure: no database, network, file or event loop. Imports the event contract and the types of pricing.
"""
