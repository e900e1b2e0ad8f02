"""What a ledger is told, and by whom: arguments, the environment, defaults."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from tests.producer.test_settings import CREDS
from voicecosts.consumer.config import (
    LedgerConfig,
    from_env,
    max_reading_from_env,
    prices_from_env,
)
from voicecosts.consumer.errors import InvalidConfig


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
        for word in ("http://a:80", "'b'", "absent.creds", "file", "interval", "replicas"):
            assert word in text

    def test_the_ceiling_of_a_reading_is_an_argument_a_variable_or_ten_thousand(
        self, tmp_path: Path
    ) -> None:
        """COSTS_MAX_READING is in US dollars; a reader that books what waits has it as well."""
        where = {"servers": "nats://a:4222", "data_dir": tmp_path}
        said = {"COSTS_MAX_READING": "2500.50"}
        assert from_env(**where, environ={}).max_reading == Decimal(10_000)
        assert from_env(**where, environ=said).max_reading == Decimal("2500.50")
        assert from_env(**where, max_reading="7", environ=said).max_reading == Decimal(7)
        assert max_reading_from_env(said) == Decimal("2500.50")

    @pytest.mark.parametrize("said", ["much", "0", "-5", "nan", "inf", "1000000000"])
    def test_a_ceiling_that_is_no_amount_is_refused(self, tmp_path: Path, said: str) -> None:
        """A ledger that believes everything, or nothing, is not started."""
        with pytest.raises(InvalidConfig, match="--max-reading-cost or COSTS_MAX_READING"):
            from_env(servers="nats://a:4222", data_dir=tmp_path, max_reading=said, environ={})
        with pytest.raises(InvalidConfig, match="US dollars"):
            max_reading_from_env({"COSTS_MAX_READING": said})

    def test_the_file_of_own_prices_is_named_or_in_the_data_directory(self, tmp_path: Path) -> None:
        """An argument wins over COSTS_PRICES; without both the data directory may have one."""
        for name in ("a.toml", "b.toml"):
            (tmp_path / name).touch()
        said = {"COSTS_PRICES": str(tmp_path / "a.toml")}
        where = {"own_broker": True, "data_dir": tmp_path}
        assert from_env(**where, environ={}).price_file == tmp_path / "prices.toml"
        assert from_env(**where, environ=said).price_file == tmp_path / "a.toml"
        b = tmp_path / "b.toml"
        assert from_env(**where, prices=b, environ=said).price_file == b
        assert prices_from_env(tmp_path, {}) == tmp_path / "prices.toml"
        assert prices_from_env(tmp_path, said) == tmp_path / "a.toml"

    def test_a_file_of_own_prices_that_is_named_must_exist(self, tmp_path: Path) -> None:
        """Nobody is charged list prices because of a slip in a name."""
        absent = tmp_path / "absent.toml"
        with pytest.raises(
            InvalidConfig, match=r"no file of prices .*absent\.toml: correct --prices"
        ):
            from_env(own_broker=True, data_dir=tmp_path, prices=absent, environ={})
        with pytest.raises(InvalidConfig, match=r"no file of prices .*: correct .* COSTS_PRICES"):
            prices_from_env(tmp_path, {"COSTS_PRICES": str(absent)})

    def test_no_server_at_all_says_what_to_set(self) -> None:
        """Without a server there is nothing to read, and the message names both ways out."""
        with pytest.raises(InvalidConfig, match=r"--servers .*COSTS_SERVERS"):
            from_env(environ={})

    def test_its_own_broker_needs_no_server_and_ignores_the_shells(self, tmp_path: Path) -> None:
        """`costs up` in a shell that has COSTS_SERVERS set still starts its own broker."""
        environ = {"COSTS_SERVERS": "nats://elsewhere:4222", "COSTS_CREDENTIALS": "/absent"}
        config = from_env(own_broker=True, data_dir=tmp_path, environ=environ)
        assert (config.servers, config.credentials) == ((), None)


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
