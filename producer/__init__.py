"""Observe LiveKit voice agents: who used what, measured exactly and published safely.

The public names are in `voicecosts`.
"""
