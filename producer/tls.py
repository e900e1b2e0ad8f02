"""TLS as a worker and a ledger are told it: whom to trust, and with which certificate to sign in.

An address with tls:// or wss:// is a promise that nothing is sent in clear, and so is a certificate
authority or a certificate of one's own: it then holds for every address of the list, because who
can block one address chooses which one is used. Files are read at each connection, so certificates
may be replaced while a process runs. Never reads the environment: each config module hands it in.
"""

# ruff: noqa: N818 - the names say what is wrong

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from voicecosts.producer import settings

if TYPE_CHECKING:
    import ssl

TLS_CA: Final = "COSTS_TLS_CA"
TLS_CERT: Final = "COSTS_TLS_CERT"
TLS_KEY: Final = "COSTS_TLS_KEY"

_ENCRYPTED: Final = ("tls://", "wss://")
_WHAT: Final = {"ca": "certificate authority", "cert": "client certificate", "key": "TLS key"}

_UNTRUSTED: Final = (18, 19, 20, 21)
_OTHER_NAME: Final = (62, 64)
_NOT_YET: Final = 9
_EXPIRED: Final = 10
"""Verification errors of OpenSSL: `X509_V_ERR_…` in x509_vfy.h."""

_NO_CERTIFICATE: Final = "CERTIFICATE_REQUIRED"
_REFUSALS: Final = ("UNKNOWN_CA", "BAD_CERTIFICATE", "CERTIFICATE_EXPIRED", "CERTIFICATE_UNKNOWN")
"""Alerts with which a server refuses a client's certificate, in OpenSSL's names for them."""


class Tls(Struct, frozen=True, kw_only=True):
    """Paths of PEM files: whom to trust instead of the system's authorities, and who one is.

    `cert` and `key` are for servers that ask for a client certificate; without `key`, the file of
    `cert` holds the key too. Any of them makes TLS a must, also at addresses with nats://.
    """

    ca: str | None = None
    cert: str | None = None
    key: str | None = None


class TlsUnusable(OSError):
    """The files for TLS cannot be used; the message says which, and what to do."""


class EndedAfterHandshake(ConnectionError):
    """The server ended a connection between the TLS handshake and its first answer in it.

    In TLS 1.3 a server looks at the client's certificate when the client's handshake is over. The
    alert with its reason is lost if the connection breaks while the client still sends.
    """

    def __init__(self) -> None:
        super().__init__(
            "the server ended the connection after the TLS handshake: it may want a client "
            f"certificate, or another one: set {TLS_CERT} and {TLS_KEY} to one that is valid and "
            "signed by the authority that the server trusts; the server's log says whether it does"
        )


def must_encrypt(servers: Sequence[str], tls: Tls) -> bool:
    """Return whether nothing may be sent in clear to any of these servers."""
    return tls != Tls() or any(url.lower().startswith(_ENCRYPTED) for url in servers)


def resolve_tls(
    given: object, environ: Mapping[str, str], servers: Sequence[str], problems: list[str]
) -> Tls:
    """Return the paths that were given, each else from its variable; what is wrong is appended."""
    if given is not None and not isinstance(given, Tls):
        problems.append(f"tls is of type {type(given).__name__}: pass Tls(ca='/path/ca.pem')")
        return Tls()
    named = given or Tls()
    paths: dict[str, str] = {}
    for field, variable in (("ca", TLS_CA), ("cert", TLS_CERT), ("key", TLS_KEY)):
        what = f"the {_WHAT[field]}"
        path = settings.named_path(what, getattr(named, field), environ, variable, problems)
        if path is not None:
            paths[field] = str(path)
    tls = Tls(**paths)
    if tls != Tls() and any(url.lower().startswith("ws://") for url in servers):
        problems.append("ws:// is never encrypted, and files for TLS are given: write wss://")
    if tls != Tls():  # the system's own authorities are read when a connection is made
        try:
            context(tls)
        except TlsUnusable as error:
            problems.append(str(error))
    return tls


def context(tls: Tls) -> ssl.SSLContext:
    """Return what verifies the server's certificate and name, and signs in; reads the files anew.

    Raises:
        TlsUnusable: A file is missing, or is not what it should be.
    """
    import ssl  # noqa: PLC0415 - takes longer to load than all else that a command needs of its settings

    if tls == Tls():
        return ssl.create_default_context()
    for field, what in _WHAT.items():
        _check_readable(what, getattr(tls, field))
    if tls.key and not tls.cert:
        raise TlsUnusable(
            f"the TLS key {tls.key} is given without its certificate: set {TLS_CERT} as well"
        )
    try:
        made = ssl.create_default_context(cafile=tls.ca)
    except (ssl.SSLError, ValueError) as error:
        raise TlsUnusable(
            f"{tls.ca} holds no certificate of an authority: give one in PEM form"
        ) from error
    if tls.cert:
        _sign_in_with(made, tls.cert, tls.key)
    return made


def _check_readable(what: str, path: str | None) -> None:
    if path is None:
        return
    try:
        Path(path).read_bytes()
    except OSError as error:
        raise TlsUnusable(
            f"the {what} {path} cannot be read ({error.strerror}): check the path"
        ) from error
    except ValueError as error:  # a null byte
        raise TlsUnusable(
            f"the path of the {what} {path!a} holds a null byte: correct it"
        ) from error


def _sign_in_with(made: ssl.SSLContext, cert: str, key: str | None) -> None:
    import ssl  # noqa: PLC0415 - see `context`

    def refuse() -> str:
        raise TlsUnusable(
            f"the TLS key {key or cert} has a passphrase: give one without, and protect the file"
        )

    try:
        # Without `password` OpenSSL would ask for it at the terminal.
        made.load_cert_chain(cert, key, password=refuse)
    except TlsUnusable:
        raise
    except (ssl.SSLError, OSError) as error:
        if "KEY_VALUES_MISMATCH" in str(error):
            why = f"the TLS key {key or cert} does not belong to the certificate {cert}"
        elif key is None:
            why = f"{cert} does not hold a certificate and its key: set {TLS_KEY} to the key"
        else:
            why = f"{cert} and {key} are not a certificate and its key in PEM form"
        raise TlsUnusable(f"{why}; give a pair that belongs together") from error


def explained(error: BaseException | None) -> str | None:
    """Return in one sentence why TLS failed and what to do, or `None` if it is not about TLS."""
    import ssl  # noqa: PLC0415 - see `context`

    for each in _causes(error):
        if isinstance(each, TlsUnusable | EndedAfterHandshake):
            return str(each)
        if isinstance(each, ssl.SSLCertVerificationError):
            return _unverified(each)
        if isinstance(each, ssl.SSLError):
            return _failed(each)
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        # aiohttp's errors are named like those of `ssl` and hold one, without its fields.
        held = getattr(error, "certificate_error", None) or getattr(error, "os_error", None)
        if held is None:
            yield error
        error = held or error.__cause__


def _unverified(error: ssl.SSLCertVerificationError) -> str:
    why = error.verify_message.rstrip(".")
    if error.verify_code == _EXPIRED:
        return "the server's certificate has expired: renew it on the server"
    if error.verify_code == _NOT_YET:
        return "the server's certificate is not valid yet: check the clocks of both hosts"
    if error.verify_code in _OTHER_NAME:
        return (
            f"the server's certificate is for another name ({why}): connect by a name that it "
            "holds, or issue one that holds this name"
        )
    if error.verify_code in _UNTRUSTED:
        return (
            f"the server's certificate is not signed by an authority that is trusted here ({why}): "
            f"set {TLS_CA} to the certificate of the authority that signed it"
        )
    return f"the server's certificate is refused ({why}): replace it on the server"


def _failed(error: ssl.SSLError) -> str:
    reason = error.reason or ""
    if _NO_CERTIFICATE in reason:
        return f"the server asks for a client certificate: set {TLS_CERT} and {TLS_KEY}"
    if any(alert in reason for alert in _REFUSALS):
        return (
            f"the server refuses the client certificate ({reason}): set {TLS_CERT} and {TLS_KEY} "
            "to one that is valid and signed by the authority that the server trusts"
        )
    return (
        f"TLS failed ({reason or error}): check that the server speaks TLS at this address, "
        "version 1.2 or later"
    )
