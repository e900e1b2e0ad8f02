"""A running server whose configuration changes: users, their passwords, and what they may do."""

from __future__ import annotations

import signal

from tests.support.broker import Broker


def users(**passwords: str) -> str:
    """Return a configuration with these users and their passwords."""
    listed = ", ".join(f"{{ user: {name}, password: {word} }}" for name, word in passwords.items())
    return f"authorization {{ users: [ {listed} ] }}"


def with_user(url: str, user: str, password: str) -> str:
    """Return a server's address with a user's name and password."""
    return url.replace("//", f"//{user}:{password}@")


def reload(broker: Broker, extra: str) -> None:
    """Change the authorization of a running server."""
    broker.extra = extra
    config = broker.directory / "nats.conf"
    lines = config.read_text().splitlines()
    kept = [line for line in lines if not line.startswith("authorization")]
    config.write_text("\n".join([*kept, extra]) + "\n")
    broker.send(signal.SIGHUP)
