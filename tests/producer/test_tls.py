"""TLS as it is configured: the same on both sides, every mistake in one sentence, before anything runs."""

from __future__ import annotations

import pickle
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import Authority
from voicecosts import Tls
from voicecosts.consumer.config import from_env
from voicecosts.consumer.errors import InvalidConfig
from voicecosts.producer.config import ProducerConfig, resolve
from voicecosts.producer.errors import ConfigError

SERVER = "tls://bus:4222"


def worker(tls: Any = None, servers: str = SERVER, **environ: str) -> ProducerConfig:
    """Return the configuration of a worker."""
    return resolve(project="p", servers=servers, credentials=None, tls=tls, environ=environ)


def problems_of(tls: Any = None, servers: str = SERVER, **environ: str) -> list[str]:
    """Return why a configuration is refused; both sides say the same."""
    with pytest.raises(ConfigError) as of_worker:
        worker(tls, servers, **environ)
    with pytest.raises(InvalidConfig) as of_ledger:
        from_env(servers=servers, tls=tls, environ=environ)
    assert of_worker.value.problems == list(of_ledger.value.problems)
    return of_worker.value.problems


@pytest.fixture
def files(tmp_path: Path) -> Tls:
    """Return an authority and a client certificate."""
    return Authority(tmp_path / "ca").issue("client.internal")


def test_each_path_is_given_or_comes_from_its_variable(files: Tls, tmp_path: Path) -> None:
    """COSTS_TLS_CA, COSTS_TLS_CERT and COSTS_TLS_KEY configure both sides; what is passed wins."""
    environ = {
        "COSTS_TLS_CA": str(files.ca),
        "COSTS_TLS_CERT": str(files.cert),
        "COSTS_TLS_KEY": str(files.key),
    }
    assert worker(**environ).tls == files
    assert from_env(servers=SERVER, environ=environ).tls == files
    other = Authority(tmp_path / "other").path
    assert worker(Tls(ca=other), **environ).tls == Tls(ca=other, cert=files.cert, key=files.key)
    assert from_env(own_broker=True, data_dir=tmp_path, environ=environ).tls == Tls()


def test_a_configuration_with_tls_travels_into_job_processes(files: Tls) -> None:
    """An observer is pickled, and its configuration says no secret: the paths are none."""
    config = worker(files)
    assert pickle.loads(pickle.dumps(config)) == config  # noqa: S301 - our own bytes


def test_what_is_wrong_with_the_files_is_one_sentence_each(files: Tls, tmp_path: Path) -> None:
    """A worker that cannot work is refused at its start, not at the end of its first call."""
    (tmp_path / "empty.pem").touch()
    empty, absent = str(tmp_path / "empty.pem"), str(tmp_path / "absent.pem")
    other = Authority(tmp_path / "other").issue("client.internal")
    locked = tmp_path / "locked.key"
    openssl = shutil.which("openssl")
    cases = {
        Tls(ca=absent): f"the certificate authority {absent} cannot be read (No such file or direc",
        Tls(ca=empty): f"{empty} holds no certificate of an authority: give one in PEM form",
        Tls(cert=absent, key=files.key): f"the client certificate {absent} cannot be read",
        Tls(cert=files.cert, key=absent): f"the TLS key {absent} cannot be read",
        Tls(key=files.key): "is given without its certificate: set COSTS_TLS_CERT as well",
        Tls(cert=files.cert): "does not hold a certificate and its key: set COSTS_TLS_KEY",
        Tls(cert=files.cert, key=other.key): f"does not belong to the certificate {files.cert}",
        Tls(cert=empty, key=files.key): "are not a certificate and its key in PEM form",
        Tls(ca="a\0b"): "the path of the certificate authority 'a\\x00b' holds a null byte",
        Tls(ca=3): "the path of the certificate authority is of type int",  # type: ignore[arg-type]
    }
    if openssl is not None:
        given = ["-in", str(files.key), "-passout", "pass:word", "-out", str(locked)]
        subprocess.run([openssl, "pkey", "-aes256", *given], check=True, timeout=30)
        cases[Tls(cert=files.cert, key=str(locked))] = "has a passphrase: give one without"
    for tls, words in cases.items():
        (said,) = problems_of(tls)
        assert words in said
    assert problems_of("ca.pem") == ["tls is of type str: pass Tls(ca='/path/ca.pem')"]


def test_files_for_tls_are_for_servers_that_can_be_encrypted(files: Tls) -> None:
    """A certificate that would not be used is a mistake."""
    assert problems_of(files, "ws://bus") == [
        "ws:// is never encrypted, and files for TLS are given: write wss://"
    ]
    with pytest.raises(ConfigError, match="files for TLS are given, but no server"):
        worker(files, servers="")
