"""The command `costs dashboard`: serves the app of `analytics/commands/dashboard_app/` to browsers of this host."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Lock
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from voicecosts.analytics.commands.loopback import HOST, Keys, Loopback
from voicecosts.analytics.commands.options import DataDir
from voicecosts.analytics.commands.signals import stopping, undisturbed
from voicecosts.analytics.errors import PortTaken, require_extras

if TYPE_CHECKING:
    from voicecosts.analytics.commands.loopback import App

app = typer.Typer(rich_markup_mode=None)

PORT: Final = 2727

ONE_AT_A_TIME: Final = Lock()
"""Who asks the ledger for a page holds it: pages book what waits, and use memory, one after the other, and the
server does not end in the middle of it."""

_APP: Final = Path(__file__).parent / "dashboard_app" / "app.py"
_NEEDED: Final = {"analytics": ("duckdb", "rich"), "notebooks": ("marimo", "altair")}
_KEPT_S: Final = 30
"""How long a page that lost its connection may come back to what was chosen on it."""
_LAST_QUESTION_S: Final = 30
"""How long the question may still take that is being answered when it is ended."""
_GRACE_S: Final = 1
"""How long requests that run may still take when it is ended."""


@app.command()
def dashboard(
    *,
    port: Annotated[
        int,
        typer.Option(
            "--port", metavar="PORT", min=0, max=65535, help="The port; 0 is any free one."
        ),
    ] = PORT,
    opens: Annotated[
        bool, typer.Option("--open/--no-open", help="Whether to open it in a browser.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Show what calls cost on a page in the browser.

    Money by day, cost per minute by agent, margin by tenant, what has no price, calls that are not settled, a list
    of calls and one call in parts. It reads the ledger's newest snapshot, and looks again whenever there is another. Only
    browsers of this host reach it, with the address that is printed: it holds a token, made anew by each start.
    Ctrl-C ends it.
    """
    del data_dir  # the app asks `named_folder`
    require_extras(_NEEDED, needed_by="`costs dashboard`")
    import uvicorn  # noqa: PLC0415 - needs what was just required

    from voicecosts.analytics.commands.connections import (  # noqa: PLC0415 - same
        BACKLOG,
        Strangers,
        protocol,
        say_nothing_of_pages_that_are_gone,
    )

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            asyncio.get_running_loop().set_exception_handler(strangers.on_error)
            await super().startup(sockets)
            self.should_exit = ended.is_set()
            if not self.should_exit:
                announce()

        async def on_tick(self, counter: int) -> bool:
            return await super().on_tick(counter) or ended.is_set()

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield  # they are heard below, until all has ended

    ended, strangers, keys = Event(), Strangers(), Keys()
    say_nothing_of_pages_that_are_gone()
    with (
        stopping(),
        _listening(port) as listener,
        undisturbed(ended.set),
        contextlib.ExitStack() as at_end,
    ):
        number = listener.getsockname()[1]
        address = keys.address(number)

        def announce() -> None:
            typer.echo(f"the dashboard is at {address} (Ctrl-C ends it)")
            if opens:
                at_end.enter_context(_opened(address))

        served = at_end.enter_context(_served(keys))
        config = uvicorn.Config(
            Loopback(served, number, keys, strangers.forget),
            loop="asyncio",
            http=protocol(strangers),
            backlog=BACKLOG,
            log_level="critical",
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=_GRACE_S,
        )
        Server(config).run(sockets=[listener])


@contextlib.contextmanager
def _served(keys: Keys) -> Iterator[App]:
    """Yield the app as marimo serves it, without its code, and to nobody without the token; then end its sessions.

    Each page has a thread that waits for what is chosen on it. Python waits for them at its own exit, and marimo
    ends them only where it runs the server itself.
    """
    import marimo  # noqa: PLC0415 - costs half a second

    pages: list[Any] = []

    def kept(app: Any) -> Any:
        pages.append(app)
        return app

    made = marimo.create_asgi_app(quiet=True, token=keys.token, session_ttl=_KEPT_S)
    served: App = made.with_app(path=keys.path, root=str(_APP), middleware=[kept]).build()
    try:
        yield served
    finally:
        for each in pages:
            asyncio.run(each.state.session_manager.shutdown())
        ONE_AT_A_TIME.acquire(timeout=_LAST_QUESTION_S)  # and nobody asks any more


@contextlib.contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    """Yield a socket on loopback; raises `PortTaken`."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            raise PortTaken(port, error.strerror or str(error)) from error
        yield listener


@contextlib.contextmanager
def _opened(address: str) -> Iterator[None]:
    """Open an address in the user's browser, by a file that only the user can read.

    Who looks at the processes of this host sees the name of the file, and not the token.
    """
    with TemporaryDirectory(prefix="costs-") as folder:
        page = Path(folder) / "dashboard.html"
        page.write_text(f'<meta http-equiv="refresh" content="0; url={address}">')
        webbrowser.open(page.as_uri())
        yield
