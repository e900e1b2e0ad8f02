"""What a ledger is told, and by whom: arguments, the environment, defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from voicecosts.consumer.config import (
    LedgerConfig,
    credentials_kind,
    default_data_dir,
    from_env,
    mask,
)
from voicecosts.consumer.errors import InvalidConfig

SEED = "SU" + "A" * 56
CREDS = f"""-----BEGIN NATS USER JWT-----
eyJ0eXAiOiJKV1QifQ.e30.c2ln
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
{SEED}
------END USER NKEY SEED------
"""


class TestFromEnv:
    def test_the_environment_fills_what_no_argument_says(self, tmp_path: Path) -> None:
        """COSTS_SERVERS, COSTS_CREDENTIALS and COSTS_DATA_DIR configure a whole ledger."""
        secret = tmp_path / "ledger.creds"
        secret.write_text(CREDS)
        config = from_env(
            environ={
                "COSTS_SERVERS": "nats://a:4222, tls://b:4223",
                "COSTS_CREDENTIALS": str(secret),
                "COSTS_DATA_DIR": str(tmp_path / "books"),
            }
        )
        assert config == LedgerConfig(
            servers=("nats://a:4222", "tls://b:4223"),
            credentials=secret,
            data_dir=tmp_path / "books",
        )

    def test_an_argument_wins_over_its_variable(self, tmp_path: Path) -> None:
        """What is written on the command line is what happens."""
        config = from_env(
            servers="nats://here:4222",
            data_dir=tmp_path / "here",
            environ={"COSTS_SERVERS": "nats://there:4222", "COSTS_DATA_DIR": str(tmp_path)},
        )
        assert (config.servers, config.data_dir) == (("nats://here:4222",), tmp_path / "here")

    def test_a_server_without_scheme_is_a_nats_server(self) -> None:
        """`host:port` is how people write a NATS address."""
        assert from_env(servers="bus:4222", environ={}).servers == ("nats://bus:4222",)

    def test_every_problem_is_reported_at_once(self, tmp_path: Path) -> None:
        """A set-up with four mistakes is corrected in one go, not in four."""
        (tmp_path / "file").touch()
        with pytest.raises(InvalidConfig) as caught:
            from_env(
                servers="http://a:80,nats://b:notaport",
                credentials=tmp_path / "absent.creds",
                data_dir=tmp_path / "file",
                snapshot_interval_s=0,
                replicas=2,
                stream_max_bytes=5,
                environ={},
            )
        text = str(caught.value)
        assert len(caught.value.problems) == 7
        for word in ("http://a:80", "notaport", "absent.creds", "file", "interval", "replicas"):
            assert word in text

    def test_no_server_at_all_says_what_to_set(self) -> None:
        """Without a server there is nothing to read, and the message names both ways out."""
        with pytest.raises(InvalidConfig, match=r"--servers .*COSTS_SERVERS"):
            from_env(environ={})

    def test_its_own_broker_needs_no_server_and_ignores_the_shells(self, tmp_path: Path) -> None:
        """`costs up` in a shell that has COSTS_SERVERS set still starts its own broker."""
        environ = {"COSTS_SERVERS": "nats://elsewhere:4222", "COSTS_CREDENTIALS": "/absent"}
        config = from_env(own_broker=True, data_dir=tmp_path, environ=environ)
        assert (config.servers, config.credentials) == ((), None)

    def test_websocket_and_plain_servers_do_not_mix(self) -> None:
        """The client cannot change the kind of connection between two servers."""
        with pytest.raises(InvalidConfig, match="mix"):
            from_env(servers="nats://a:4222,ws://b:80", environ={})

    @pytest.mark.parametrize("text", ["", "secret", "SUshort", "-----BEGIN NATS USER JWT-----"])
    def test_a_file_without_credentials_is_refused(self, tmp_path: Path, text: str) -> None:
        """A wrong file is told from a denied one before anything connects."""
        (tmp_path / "c").write_text(text)
        with pytest.raises(InvalidConfig, match=r"neither .* nor an nkey seed"):
            from_env(servers="nats://a", credentials=tmp_path / "c", environ={})

    def test_a_binary_credentials_file_is_refused(self, tmp_path: Path) -> None:
        """Bytes that are no text are a wrong file, not a crash."""
        (tmp_path / "c").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(InvalidConfig, match="not a text file"):
            from_env(servers="nats://a", credentials=tmp_path / "c", environ={})


@pytest.mark.parametrize(
    ("text", "kind"),
    [(CREDS, "creds"), (SEED, "seed"), (f"\n{SEED}\n", "seed"), ("SA" + SEED, None)],
)
def test_credentials_are_told_apart_by_their_contents(text: str, kind: str | None) -> None:
    """Both kinds come as a path, so the file itself says which it is."""
    assert credentials_kind(text) == kind


class TestDefaultDataDir:
    def test_linux_uses_the_users_share_folder(self) -> None:
        """XDG_DATA_HOME decides, and without it ~/.local/share."""
        assert default_data_dir({"XDG_DATA_HOME": "/d"}, platform="linux") == Path("/d/voicecosts")
        home = Path.home() / ".local" / "share" / "voicecosts"
        assert default_data_dir({}, platform="linux") == home

    def test_a_relative_xdg_folder_is_ignored(self) -> None:
        """A relative path would put the books wherever the command happened to be started."""
        home = Path.home() / ".local" / "share" / "voicecosts"
        assert default_data_dir({"XDG_DATA_HOME": "here"}, platform="linux") == home

    def test_macos_uses_application_support(self) -> None:
        """The platform's own place for user data."""
        folder = Path.home() / "Library" / "Application Support" / "voicecosts"
        assert default_data_dir({}, platform="darwin") == folder


class TestSecrets:
    def test_repr_and_messages_show_no_password(self, tmp_path: Path) -> None:
        """Configurations end up in logs; passwords and tokens must not."""
        config = LedgerConfig(
            data_dir=tmp_path, servers=("nats://user:p@ss@a:4222", "tls://T0KEN@b:4222")
        )
        text = repr(config)
        assert "nats://***@a:4222, tls://***@b:4222" in text
        assert "p@ss" not in text
        assert "T0KEN" not in text
        with pytest.raises(InvalidConfig) as caught:
            from_env(servers="http://T0KEN@a", environ={})
        assert "T0KEN" not in str(caught.value)

    def test_only_the_userinfo_is_masked(self) -> None:
        """Host and port stay readable: they are what one looks for in a log."""
        assert (
            mask("no answer from nats://t@h:1, ws://h:2")
            == "no answer from nats://***@h:1, ws://h:2"
        )
