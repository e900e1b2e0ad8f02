"""Three nats-servers as one JetStream cluster, with the settings that docs/operations.md names."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Self

import nats
from nats.js import api

from tests.support.broker import Broker, free_port
from tests.support.stream import jetstream
from voicecosts.producer.subjects import STREAM


class Cluster:
    """Three brokers that keep their ports and stores across every accident."""

    def __init__(self, folder: Path) -> None:
        routes = {f"n{number}": free_port() for number in range(3)}
        addresses = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes.values())
        self.nodes: dict[str, Broker] = {}
        for name, port in routes.items():
            store = json.dumps(str(folder / name / "store"))
            extra = (
                f"server_name: {name}\n"
                f"jetstream {{ store_dir: {store}, sync_interval: always }}\n"
                f'cluster {{ name: costs, listen: "127.0.0.1:{port}", routes: [{addresses}] }}'
            )
            self.nodes[name] = Broker(folder / name, extra=extra)

    @property
    def urls(self) -> list[str]:
        """Where clients connect: any of them."""
        return [node.url for node in self.nodes.values()]

    async def leader(self) -> str:
        """Return the name of the server that leads the stream."""
        info = await self.info()
        assert info.cluster is not None
        assert info.cluster.leader
        return info.cluster.leader

    async def info(self, *, deadline_s: float = 60.0) -> api.StreamInfo:
        """Return what the cluster says of the stream, as soon as it has a leader."""
        async with asyncio.timeout(deadline_s):
            while True:
                with contextlib.suppress(OSError, TimeoutError, nats.errors.Error):
                    async with jetstream(self.urls, connect_timeout=5) as js:  # type: ignore[arg-type]  # one of several
                        info = await js.stream_info(STREAM)
                        if info.cluster is not None and info.cluster.leader:
                            return info
                await asyncio.sleep(0.1)

    def __enter__(self) -> Self:
        for node in self.nodes.values():
            node.start()
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes.values():
            node.stop()
