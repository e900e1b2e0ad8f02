"""A NATS operator with one account, signed as `nsc` signs it: credentials files with permissions."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Sequence
from typing import Any

import nkeys

_UNLIMITED = {"subs": -1, "data": -1, "payload": -1}
_ACCOUNT = {
    **_UNLIMITED,
    "imports": -1,
    "exports": -1,
    "wildcards": True,
    "conn": -1,
    "leaf": -1,
    "mem_storage": -1,
    "disk_storage": -1,
    "streams": -1,
    "consumer": -1,
}
_SYSTEM = {
    key: value
    for key, value in _ACCOUNT.items()
    if "stor" not in key and key not in {"streams", "consumer"}
}


class Operator:
    """An operator with one account for users, and the block of a nats-server that trusts it."""

    def __init__(self) -> None:
        self._key = _key(nkeys.PREFIX_BYTE_OPERATOR)
        self._account = _key(nkeys.PREFIX_BYTE_ACCOUNT)
        self._system = _key(nkeys.PREFIX_BYTE_ACCOUNT)  # JetStream does not start without

    @property
    def block(self) -> str:
        """What the server is configured with."""
        own = _signed(self._key, self._key, "operator", {"type": "operator"})
        preload = " ".join(
            f"{key.public_key.decode()}: "
            + _signed(self._key, key, name, {"type": "account", "limits": limits})
            + "\n"
            for name, key, limits in (
                ("COSTS", self._account, _ACCOUNT),
                ("SYS", self._system, _SYSTEM),
            )
        )
        system = self._system.public_key.decode()
        return (
            f"operator: {own}\nsystem_account: {system}\n"
            f"resolver: MEMORY\nresolver_preload: {{ {preload} }}\n"
        )

    def user(self, name: str, publish: Sequence[str], subscribe: Sequence[str]) -> str:
        """Return the contents of a `.creds` file."""
        seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
        allowed = {"pub": {"allow": list(publish)}, "sub": {"allow": list(subscribe)}}
        claims = {"type": "user", **_UNLIMITED, **allowed}
        token = _signed(self._account, nkeys.from_seed(seed), name, claims)
        return (
            f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{seed.decode()}\n------END USER NKEY SEED------\n"
        )


def _key(kind: int) -> Any:
    return nkeys.from_seed(nkeys.encode_seed(os.urandom(32), kind))


def _signed(issuer: Any, subject: Any, name: str, nats: dict[str, Any]) -> str:
    claims = {
        "jti": os.urandom(16).hex(),
        "iat": int(time.time()),
        "iss": issuer.public_key.decode(),
        "sub": subject.public_key.decode(),
        "name": name,
        "nats": {**nats, "version": 2},
    }
    parts = [_text({"typ": "JWT", "alg": "ed25519-nkey"}), _text(claims)]
    text = ".".join(parts)
    return f"{text}.{_base64(issuer.sign(text.encode()))}"


def _text(value: dict[str, Any]) -> str:
    return _base64(json.dumps(value).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
