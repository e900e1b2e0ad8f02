"""Many LiveKit agents in one worker: each call is routed to one of them and given to the observers.

The public names come from the package: `from voicecosts import AgentPool, agent_config`.
"""
