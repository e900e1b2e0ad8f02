"""Scripted calls: real `AgentSession`s with offline providers that keep their own count."""
