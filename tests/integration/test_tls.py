"""TLS between workers, ledgers and a real nats-server: nothing is sent in clear where it is promised."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from aiohttp import web
from msgspec.structs import replace
from nats.aio.client import Client
from typer.testing import CliRunner

from tests.support.books import MemoryBooks
from tests.support.broker import Broker, free_port
from tests.support.certificates import Authority, server
from tests.support.middleman import Info, in_between
from tests.support.waiting import until
from voicecosts.analytics.commands.stream import app as stream
from voicecosts.consumer.broker.connection import Waits
from voicecosts.consumer.broker.feed import Feed
from voicecosts.consumer.config import LedgerConfig
from voicecosts.consumer.errors import BrokerNotTrusted, BrokerUnreachable
from voicecosts.producer import transport
from voicecosts.producer.config import ProducerConfig
from voicecosts.producer.errors import NotNow, TooLarge
from voicecosts.producer.outbox.packing import Packed
from voicecosts.producer.publishing import connection as publishing
from voicecosts.producer.publishing.connection import Connection
from voicecosts.producer.tls import Tls

MESSAGE = Packed(
    subject="costs.v1.tests.dental.00", message_id="id-1", data=b"x", events=1, batch_number=1
)
TOKEN = "a-token"  # noqa: S105 - of a server that lives as long as a test
GUARDED = f'authorization {{ token: "{TOKEN}" }}\n'

Side = Callable[..., Awaitable[str]]

pytestmark = [
    # nats-py leaves the socket of a connection that was refused to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """Collect those sockets here, and not in whatever test comes later."""
    yield
    gc.collect()


async def ledger(servers: str, tls: Tls | None = None) -> str:
    """Let a ledger connect once; return why it cannot, or nothing. It creates the stream."""
    config = LedgerConfig(
        data_dir=Path("unused"),
        servers=tuple(servers.split(",")),
        tls=tls or Tls(),
        stream_max_bytes=2**24,
    )
    feed = Feed(
        config, MemoryBooks(), asyncio.Event(), waits=Waits(group_s=0.1), jitter=lambda: 0.0
    )
    try:
        await feed.open(deadline_s=0)
    except BrokerNotTrusted as error:
        return re.sub(r"--tls-\w+ \((\w+)\)", r"\1", str(error))
    except BrokerUnreachable as error:
        return str(error)
    finally:
        await feed.close()
    return ""


async def worker(servers: str, tls: Tls | None = None) -> str:
    """Let a worker publish once; return why it cannot, or nothing."""
    connection = Connection(
        ProducerConfig(project="tests", servers=tuple(servers.split(",")), tls=tls or Tls())
    )
    try:
        await connection.publish(MESSAGE)
    except NotNow as error:
        return f"{error} {connection!r}"
    finally:
        await connection.close()
    return ""


def joined(target: Path, *parts: str | None) -> str:
    """Write several files into one and return its path."""
    target.write_bytes(b"".join(Path(part or "").read_bytes() for part in parts))
    return str(target)


both = pytest.mark.parametrize("side", [ledger, worker])


@contextlib.asynccontextmanager
async def quitter(files: Tls, end: str, *, greets: bool = True) -> AsyncIterator[int]:
    """A server that shakes hands and ends the connection without an answer; its port."""
    verified = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    verified.load_cert_chain(files.cert or "", files.key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            if greets:
                writer.write(b'INFO {"tls_required": true, "max_payload": 1048576}\r\n')
            await writer.start_tls(verified)
            if end == "after CONNECT":
                await reader.readline()
            if end == "by a reset":
                lingers_not = struct.pack("ii", 1, 0)
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, lingers_not)
                writer.transport.abort()
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()


def without_tls(info: Info) -> None:
    """Change the first line of a server as an attacker would."""
    info.pop("tls_required", None)
    info.pop("tls_available", None)


class TestNothingInClear:
    @both
    async def test_a_server_without_tls_is_sent_nothing(self, side: Side, tmp_path: Path) -> None:
        """tls:// is a promise: a server that does not speak TLS never sees the token."""
        with Broker(tmp_path / "plain", extra=GUARDED) as broker:
            async with in_between(broker.port) as line:
                said = await side(f"tls://{TOKEN}@127.0.0.1:{line.port}")
        assert f"127.0.0.1:{line.port} does not offer TLS, so nothing was sent to it" in said
        assert (line.visits > 0, line.sent) == (True, b"")

    @both
    async def test_who_leaves_tls_out_of_the_first_line_is_sent_nothing(
        self, side: Side, tmp_path: Path
    ) -> None:
        """Somebody in between cannot talk a client out of TLS."""
        authority = Authority(tmp_path / "ca")
        extra = GUARDED + server(authority.issue())
        with Broker(tmp_path / "secure", extra=extra) as broker:
            async with in_between(broker.port, without_tls) as line:
                said = await side(f"tls://{TOKEN}@127.0.0.1:{line.port}", Tls(ca=authority.path))
        assert "does not offer TLS" in said
        assert (line.visits > 0, line.sent) == (True, b"")

    @both
    async def test_every_address_of_a_list_keeps_the_promise_of_one(
        self, side: Side, tmp_path: Path
    ) -> None:
        """Who can block one address chooses the other, so tls:// or an authority hold for all."""
        authority = Authority(tmp_path / "ca")
        with Broker(tmp_path / "plain", extra=GUARDED) as broker:
            async with in_between(broker.port) as line:
                clear = f"nats://{TOKEN}@127.0.0.1:{line.port}"
                blocked = f"tls://{TOKEN}@127.0.0.1:{free_port()}"
                await side(f"{blocked},{clear}")
                assert (line.visits > 0, line.sent) == (True, b"")
                said = await side(clear, Tls(ca=authority.path))
        assert "files for TLS, make TLS a must at all addresses" in said
        assert (line.visits > 0, line.sent) == (True, b"")

    @both
    async def test_addresses_that_a_server_announces_are_never_used(
        self, side: Side, tmp_path: Path
    ) -> None:
        """The first line is in clear: what it says of other servers is anybody's word."""
        authority = Authority(tmp_path / "ca")
        with (
            Broker(tmp_path / "secure", extra=server(authority.issue())) as broker,
            Broker(tmp_path / "decoy") as decoy,
        ):
            async with in_between(decoy.port) as lure:

                def announce(info: Info) -> None:
                    info["connect_urls"] = [f"127.0.0.1:{lure.port}"]

                async with in_between(broker.port, announce) as line:
                    url = f"tls://127.0.0.1:{line.port}"
                    assert await ledger(url, Tls(ca=authority.path)) == ""
                    assert await side(url, Tls(ca=authority.path)) == ""
                    assert "not signed by an authority" in await side(url)
        assert lure.visits == 0
        assert b"CONNECT" not in line.sent

    @both
    async def test_a_server_that_leaves_the_choice_is_spoken_to_in_tls(
        self, side: Side, tmp_path: Path
    ) -> None:
        """A server with `allow_non_tls` offers TLS and does not require it; we do."""
        authority = Authority(tmp_path / "ca")
        extra = GUARDED + server(authority.issue()) + "\nallow_non_tls: true"
        with Broker(tmp_path / "secure", extra=extra) as broker:
            async with in_between(broker.port) as line:
                url = f"tls://{TOKEN}@127.0.0.1:{line.port}"
                assert await ledger(url, Tls(ca=authority.path)) == ""
                assert await side(url, Tls(ca=authority.path)) == ""
        assert TOKEN.encode() not in line.sent

    @both
    async def test_a_server_that_waits_for_the_handshake_is_spoken_to(
        self, side: Side, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With `handshake_first` not even the server's first line is in clear."""
        authority = Authority(tmp_path / "ca")
        extra = server(authority.issue(), "handshake_first: true")
        monkeypatch.setattr(transport, "_SILENCE_S", 0.1)  # it says nothing, however long one waits
        with Broker(tmp_path / "secure", extra=extra, speaks_first=False) as broker:
            url = broker.url.replace("nats://", "tls://")
            assert await ledger(url, Tls(ca=authority.path)) == ""
            assert await side(url, Tls(ca=authority.path)) == ""


class TestWhatIsBelieved:
    async def test_a_limit_that_was_said_in_clear_is_not_believed(self, tmp_path: Path) -> None:
        """Somebody in between could have a worker give up all it has as too large for the server."""
        authority = Authority(tmp_path / "ca")

        def lie(info: Info) -> None:
            info["max_payload"] = 1

        with Broker(tmp_path / "secure", extra=server(authority.issue())) as broker:
            async with in_between(broker.port, lie) as line:
                url = f"tls://127.0.0.1:{line.port}"
                direct = broker.url.replace("nats://", "tls://")
                assert await ledger(direct, Tls(ca=authority.path)) == ""
                assert await worker(url, Tls(ca=authority.path)) == ""

    async def test_the_limit_of_the_server_itself_is_believed(self, tmp_path: Path) -> None:
        """A message above it would end the connection, so it is never sent."""
        authority = Authority(tmp_path / "ca")
        extra = server(authority.issue())
        large = replace(MESSAGE, data=b"x" * 3000)
        with Broker(tmp_path / "small", extra=extra, max_payload="2048") as broker:
            url = broker.url.replace("nats://", "tls://")
            config = ProducerConfig(project="tests", servers=(url,), tls=Tls(ca=authority.path))
            connection = Connection(config)
            with pytest.raises(TooLarge, match="2048"):
                await connection.publish(large)
            await connection.close()

    async def test_a_limit_that_the_server_does_not_confirm_gives_nothing_up(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without the server's own word the message waits, and is tried again."""
        monkeypatch.setattr(publishing, "_CONFIRMATION_S", 0.1)
        monkeypatch.setattr(transport.Informed, "_process_info", Client._process_info)
        authority = Authority(tmp_path / "ca")
        extra = server(authority.issue())
        large = replace(MESSAGE, data=b"x" * 3000)
        with Broker(tmp_path / "small", extra=extra, max_payload="2048") as broker:
            url = broker.url.replace("nats://", "tls://")
            config = ProducerConfig(project="tests", servers=(url,), tls=Tls(ca=authority.path))
            connection = Connection(config)
            with pytest.raises(NotNow, match="does not confirm"):
                await connection.publish(large)
            await connection.close()


class TestWhoIsTrusted:
    @both
    async def test_a_private_authority_and_client_certificates(
        self, side: Side, tmp_path: Path
    ) -> None:
        """A server that asks for a client certificate gets it, and is verified itself."""
        authority = Authority(tmp_path / "ca")
        extra = server(authority.issue(), asks=True)
        client = authority.issue("client.internal")
        together = joined(tmp_path / "together.pem", client.cert, client.key)
        with Broker(tmp_path / "secure", extra=extra) as broker:
            url = broker.url.replace("nats://", "tls://")
            assert await ledger(url, client) == ""
            assert await side(url, client) == ""
            assert await side(broker.url, client) == ""
            assert await side(url, Tls(ca=authority.path, cert=together)) == ""

    @both
    async def test_what_is_wrong_with_certificates_is_one_sentence(
        self, side: Side, tmp_path: Path
    ) -> None:
        """Each says what to do, and in none of them is the token."""
        ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
        trusts = Tls(ca=ours.path)
        foreign = theirs.issue("client.internal")

        async def said_of(extra: str, tls: Tls | None = None) -> str:
            with Broker(tmp_path / "secure", extra=GUARDED + extra) as broker:
                said = await side(f"tls://{TOKEN}@127.0.0.1:{broker.port}", tls)
            assert TOKEN not in said
            return said

        good = server(ours.issue())
        assert "not signed by an authority that is trusted here" in await said_of(good)
        assert "set COSTS_TLS_CA to" in await said_of(good, Tls(ca=theirs.path))
        expired = server(ours.issue(is_expired=True))
        assert "has expired: renew it on the server" in await said_of(expired, trusts)
        other = server(ours.issue("bus.internal"))
        assert "is for another name (IP address mismatch" in await said_of(other, trusts)
        asking = server(ours.issue(), asks=True)
        assert "set COSTS_TLS_CERT and COSTS_TLS_KEY" in await said_of(asking, trusts)
        wrong = Tls(ca=ours.path, cert=foreign.cert, key=foreign.key)
        said = await said_of(asking, wrong)
        # The alert may be lost: the server closes while the client sends.
        assert "server refuses the client certificate (" in said or "or another one: set" in said
        assert "set COSTS_TLS_CERT and COSTS_TLS_KEY" in said

    async def test_a_command_names_the_option_that_cures_it(self, tmp_path: Path) -> None:
        """A server that answers is not called one that does not, and the option is the way out."""
        authority = Authority(tmp_path / "ca")
        with Broker(tmp_path / "secure", extra=server(authority.issue())) as broker:
            url = broker.url.replace("nats://", "tls://")
            result = await asyncio.to_thread(
                CliRunner().invoke,
                stream,
                ["status", "--servers", url, "--data-dir", str(tmp_path)],
            )
        assert isinstance(result.exception, BrokerNotTrusted)
        said = str(result.exception)
        assert said.startswith(
            f"No TLS connection to {url}: the server's certificate is not signed"
        )
        assert said.endswith(
            "set --tls-ca (COSTS_TLS_CA) to the certificate of the authority that signed it."
        )

    @both
    @pytest.mark.parametrize("end", ["at once", "after CONNECT", "by a reset"])
    async def test_an_end_right_after_the_handshake_may_be_about_the_client_certificate(
        self, side: Side, end: str, tmp_path: Path
    ) -> None:
        """Where no alert was read, the sentence says what may be wrong, and what to do."""
        authority = Authority(tmp_path / "ca")
        async with quitter(authority.issue(), end) as port:
            said = await side(f"tls://{TOKEN}@127.0.0.1:{port}", Tls(ca=authority.path))
        assert "the server ended the connection after the TLS handshake: it may want" in said
        assert "set COSTS_TLS_CERT and COSTS_TLS_KEY" in said
        assert TOKEN not in said

    # nats-py uses an old form of an argument of aiohttp's.
    @pytest.mark.filterwarnings("ignore:parameter 'timeout':DeprecationWarning")
    @both
    async def test_a_websocket_without_the_client_certificate_is_told_so(
        self, side: Side, tmp_path: Path
    ) -> None:
        """A server that verifies clients of its websocket ends the connection as any other."""
        authority = Authority(tmp_path / "ca")
        async with quitter(authority.issue(), "after CONNECT", greets=False) as port:
            said = await side(f"wss://127.0.0.1:{port}", Tls(ca=authority.path))
        assert "set COSTS_TLS_CERT and COSTS_TLS_KEY" in said

    async def test_files_are_read_at_each_connection(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Certificates are replaced while a worker runs: the next connection has the new ones."""
        old, new = Authority(tmp_path / "old"), Authority(tmp_path / "new")
        trusted = tmp_path / "trusted.pem"
        tls = Tls(ca=joined(trusted, old.path))
        broker = Broker(tmp_path / "secure", extra=server(old.issue()))
        url = broker.url.replace("nats://", "tls://")
        with broker:
            assert await ledger(url, tls) == ""
            connection = Connection(ProducerConfig(project="tests", servers=(url,), tls=tls))
            await connection.publish(MESSAGE)
        await until(lambda: connection._client is None or connection._client.is_closed)
        broker.extra = server(new.issue())
        with broker:
            with pytest.raises(NotNow):
                await connection.publish(MESSAGE)
            assert "not signed by an authority" in connection.problem
            trusted.unlink()
            with pytest.raises(NotNow):
                await connection.publish(MESSAGE)
            assert "trusted.pem cannot be read" in connection.problem
            joined(trusted, new.path)
            await connection.publish(MESSAGE)
            await connection.close()
        assert "eof_received" not in caplog.text  # a word of asyncio's that helps nobody


class TestWebsockets:
    # nats-py uses an old form of an argument of aiohttp's.
    @pytest.mark.filterwarnings("ignore:parameter 'timeout':DeprecationWarning")
    @both
    async def test_wss_is_verified_and_never_redirected_into_clear(
        self, side: Side, tmp_path: Path
    ) -> None:
        """wss:// keeps the promise of tls://, also where the server sends the client elsewhere."""
        authority = Authority(tmp_path / "ca")
        files, port, clear = authority.issue(), free_port(), free_port()
        listening = f'websocket {{ listen: "127.0.0.1:{port}"\n {server(files)} }}'
        plain = f'websocket {{ listen: "127.0.0.1:{clear}"\n no_tls: true }}'
        trusts = Tls(ca=authority.path)
        with (
            Broker(tmp_path / "secure", extra=listening),
            Broker(tmp_path / "plain", extra=GUARDED + plain),
        ):
            assert await ledger(f"wss://127.0.0.1:{port}", trusts) == ""
            assert await side(f"wss://127.0.0.1:{port}", trusts) == ""
            assert "not signed by" in await side(f"wss://127.0.0.1:{port}")
            redirected = await _redirecting(files, f"http://127.0.0.1:{clear}/")
            try:
                said = await side(f"wss://{TOKEN}@127.0.0.1:{redirected.port}", trusts)
            finally:
                await redirected.runner.cleanup()
            assert "does not offer TLS" in said

    @both
    async def test_wss_without_the_package_for_it_says_what_to_install(
        self, side: Side, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """nats-py speaks websocket with aiohttp, which a ledger does not need else."""
        monkeypatch.setattr("nats.aio.transport.aiohttp", None)
        assert "wss:// needs aiohttp: pip install 'nats-py[aiohttp]'" in await side("wss://bus")


class _Redirecting:
    def __init__(self, runner: web.AppRunner, port: int) -> None:
        self.runner = runner
        self.port = port


async def _redirecting(files: Tls, target: str) -> _Redirecting:
    """Start a web server with TLS that sends everybody elsewhere."""

    async def redirect(_: web.Request) -> web.Response:
        raise web.HTTPFound(target)

    app = web.Application()
    app.router.add_get("/", redirect)
    runner = web.AppRunner(app)
    await runner.setup()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert or "", files.key)
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
    return _Redirecting(runner, port)


def own_address() -> str | None:
    """Return an address of this host that is not loopback, without sending anything."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address: str = probe.getsockname()[0]
        return None if address.startswith("127.") else address


@both
async def test_credentials_in_clear_to_another_host_are_warned_of_once(
    side: Side, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A token on the network is said, without the token; loopback is no network."""
    host = own_address()
    if host is None:
        pytest.skip("this host has no address but loopback")
    with Broker(tmp_path / "plain", extra=GUARDED) as broker:
        assert await ledger(f"nats://{TOKEN}@127.0.0.1:{broker.port}") == ""
        assert "not encrypted" not in caplog.text
        async with in_between(broker.port, host=host) as line:
            assert await side(f"nats://{TOKEN}@{host}:{line.port}") == ""
    warned = [it.getMessage() for it in caplog.records if it.levelno == logging.WARNING]
    assert len([it for it in warned if "is not encrypted" in it]) == 1
    assert TOKEN not in caplog.text
