"""Everything that speaks NATS or runs a nats-server."""
