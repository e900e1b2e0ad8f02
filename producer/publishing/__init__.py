"""The publisher's thread: from the buffer through the outbox to JetStream, and what it reports.

The only room with an event loop of its own. Imports the outbox; `connection.py` alone imports nats.
"""
