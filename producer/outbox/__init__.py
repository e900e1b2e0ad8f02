"""Packed messages on this host's disk, from before they are sent until they are acknowledged.

SQLite and files only: no network, no event loop, no LiveKit, and nothing of the publishing room.
"""
