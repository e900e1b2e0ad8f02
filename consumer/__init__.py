"""Book what the workers report: readings in, one exact ledger row per difference out.

The way through this package is one corridor: a message is decoded, its readings are booked, the
bookings are rated, and all of it enters the ledger in one transaction. Importing the package
loads neither a database nor a broker client.
"""
