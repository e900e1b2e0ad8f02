"""On the voice loop: what one live session uses, read and attributed. Never waits, never raises.

May import LiveKit. Does no I/O and knows no publisher.
"""
