"""Everything that speaks NATS or runs a nats-server. Imports the types of a message from booking."""
