"""Certificates of a private authority, made for one test."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from voicecosts.producer.tls import Tls


class Authority:
    """A certificate authority with its files in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._ca = trustme.CA()
        self.path = str(folder / "ca.pem")
        self._ca.cert_pem.write_to_path(self.path)

    def issue(self, name: str = "127.0.0.1", *, is_expired: bool = False) -> Tls:
        """Return a certificate for a host or a client, with its key and who has signed it."""
        ends = datetime.now(UTC) - timedelta(days=1) if is_expired else None
        starts = datetime.now(UTC) - timedelta(days=2) if is_expired else None
        issued = self._ca.issue_cert(name, not_before=starts, not_after=ends)
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        for place, blob in enumerate(issued.cert_chain_pems):
            blob.write_to_path(cert, append=place > 0)
        issued.private_key_pem.write_to_path(key)
        return Tls(ca=self.path, cert=str(cert), key=str(key))


def server(files: Tls, *options: str, asks: bool = False) -> str:
    """Return the block of a nats-server that signs with these files; `asks` clients for theirs."""
    lines = [
        f"cert_file: {json.dumps(files.cert)}",
        f"key_file: {json.dumps(files.key)}",
        f"ca_file: {json.dumps(files.ca)}",
        f"verify: {str(asks).lower()}",
        *options,
    ]
    return "tls { " + "\n".join(lines) + " }"
