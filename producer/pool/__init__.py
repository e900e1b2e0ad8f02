"""Many LiveKit agents in one worker: each call is routed to one of them and given to the observers.

The public names are in `producer`: `from voicecosts import AgentPool, agent_config`.
"""
