"""`costs agents`: what a directory of agents holds, and which of them a call would reach.

Both answer without a server and without a call, with the pool's own discovery and routing. Whatever
a module prints while it is imported goes to standard error, so that the answer can be piped.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voicecosts.analytics.commands.options import AsJson
from voicecosts.analytics.commands.pages import Listed
from voicecosts.analytics.errors import require
from voicecosts.producer.errors import EmptyAgentsDirectory, Refused

if TYPE_CHECKING:
    from voicecosts.producer.pool.agent_pool import AgentPool
    from voicecosts.producer.pool.config import AgentConfig
    from voicecosts.producer.pool.routing import JobView

app = typer.Typer(
    name="agents",
    cls=Listed,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Show the agents of a directory, and which one a call reaches.",
)

AgentsDir = Annotated[
    Path,
    typer.Option(
        metavar="DIR",
        help="The folder with one agent in each .py file, as `AgentPool.discover` reads it.",
    ),
]

_ROLES = ("stt", "llm", "tts", "greeting")
_CELL = 36


@app.command("list")
def list_agents(
    *,
    agents_dir: AgentsDir,
    as_json: AsJson = False,
    plain: Annotated[bool, typer.Option("--plain", help="Write one line per agent.")] = False,
) -> None:
    """Show the agents of a directory.

    In the order in which a pool registers them. The first one is the default: it gets the calls
    that name no agent.
    """
    if as_json and plain:
        raise typer.BadParameter("give --json or --plain, not both")
    pool = _pool(agents_dir, "`costs agents list`")
    rows = [_row(pool.get(name)) for name in pool.list_agents()]
    rows[0]["default"] = True
    if as_json:
        typer.echo(json.dumps({"agents": rows}, indent=2))
    elif plain:
        for row in rows:
            facts = ", ".join(f"{key}={row[key]!r}" for key in ("class", *_ROLES, "default"))
            typer.echo(f"{row['name']}: {facts}")
    else:
        _table(rows)


@app.command()
def route(
    *,
    agents_dir: AgentsDir,
    room: Annotated[str, typer.Option(metavar="NAME", help="The name of the room.")] = "",
    job_metadata: Annotated[
        str, typer.Option(metavar="TEXT", help="The metadata of the dispatch.")
    ] = "",
    room_metadata: Annotated[
        str, typer.Option(metavar="TEXT", help="The metadata of the room.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Show which agent a call would reach, and why.

    Asks the rules of the routing in their order, as the pool does before a room connects. A custom
    router, which is the worker's own code, would be asked before them. A call that would be refused
    is an error.
    """
    pool = _pool(agents_dir, "`costs agents route`")
    from voicecosts.producer.pool.routing import JobView  # noqa: PLC0415 - needs livekit by now anyway

    view = JobView(room_name=room, job_metadata=job_metadata, room_metadata=room_metadata)
    answer, refusal = _answer(view, pool.list_agents())
    if as_json:
        typer.echo(json.dumps(answer, indent=2))
    else:
        _explain(answer)
    if refusal is not None:
        raise refusal


def _pool(agents_dir: Path, command: str) -> AgentPool:
    """Return a pool of the directory's agents, found as a worker beside the directory finds them."""
    require("livekit.agents", needed_by=command, extra="agents")
    from voicecosts.producer.pool.agent_pool import AgentPool  # noqa: PLC0415 - loads livekit

    # An agent may import what lies beside the worker: `python worker.py` would find it there.
    sys.path[:0] = [str(agents_dir.absolute().parent), str(Path.cwd())]
    pool = AgentPool()
    with contextlib.redirect_stdout(sys.stderr):
        pool.discover(agents_dir)
    if not pool.list_agents():
        raise EmptyAgentsDirectory(agents_dir.absolute())
    return pool


def _row(config: AgentConfig) -> dict[str, Any]:
    from voicecosts.producer.pool.config import type_name  # noqa: PLC0415 - needs livekit

    return {
        "name": config.name,
        "class": type_name(config.agent_class).rpartition(".")[2],
        "stt": _told(config.stt),
        "llm": _told(config.llm),
        "tts": _told(config.tts),
        "greeting": config.greeting,
        "default": False,
        "file": str(config.source_path),
    }


def _told(provider: object) -> str | None:
    """Return a provider as one word; what is in an object is not shown, it may be a key."""
    from voicecosts.producer.pool.config import type_name  # noqa: PLC0415 - needs livekit

    if provider is None or isinstance(provider, str):
        return provider
    made_by = getattr(provider, "func", provider)  # functools.partial
    word = type_name(made_by).rpartition(".")[2]
    return f"{word}()" if callable(provider) else word


def _table(rows: list[dict[str, Any]]) -> None:
    from voicecosts.analytics.commands.output import width  # noqa: PLC0415 - `--help` is quick
    from voicecosts.analytics.text.grid import Column, lines  # noqa: PLC0415 - same

    columns = [
        Column("name", [f"{row['name']}{' (default)' * row['default']}" for row in rows]),
        Column("class", [row["class"] for row in rows]),
        *(Column(role, [_cut(row[role] or "-") for row in rows]) for role in _ROLES),
    ]
    for line in lines(columns, [], width=width()):
        typer.echo(line)


def _cut(text: str) -> str:
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= _CELL else f"{one_line[: _CELL - 1]}…"


def _answer(view: JobView, names: list[str]) -> tuple[dict[str, Any], Refused | None]:
    """Return what each rule of the chain says, the route, and the error of a refused call."""
    from voicecosts.producer.dispatch import tenant_of  # noqa: PLC0415 - as above
    from voicecosts.producer.pool.routing import resolve, steps, strategies  # noqa: PLC0415 - as above

    asked = list(steps(view, names))
    answer: dict[str, Any] = {"agent": None, "source": None, "tenant": None, "refused": None}
    refusal: Refused | None = None
    try:
        found = resolve(view, names)
        answer.update(agent=found.agent, source=found.source)
        answer["tenant"] = tenant_of(view.metadata().get("tenant"))
    except Refused as error:
        refusal = error
        answer.update(agent=None, source=None, refused=str(error))
    said: list[tuple[str, str | None, str | None]]
    said = [(step.strategy.asks, step.finding.agent, step.finding.why) for step in asked]
    said += [(left.asks, None, None) for left in strategies()[len(asked) :]]
    answer["rules"] = [{"asks": asks, "agent": agent, "says": why} for asks, agent, why in said]
    return answer, refusal


def _explain(answer: dict[str, Any]) -> None:
    if answer["refused"] is None:
        typer.echo(
            f"{answer['agent']}, via {answer['source']}; tenant {answer['tenant'] or '(none)'}"
        )
    else:
        typer.echo("refused")
    typer.echo()
    label = max(len(rule["asks"]) for rule in answer["rules"])
    for rule in answer["rules"]:
        says = rule["says"] or "not asked"
        decides = " <- decides" if rule["agent"] is not None else ""
        line = f"  {rule['asks'].ljust(label)}  {says}{decides}"
        for part in _fitted(line, indent=label + 4):
            typer.echo(part)


def _fitted(line: str, *, indent: int) -> list[str]:
    """Return a line as it fits the terminal; a pipe gets it whole."""
    from voicecosts.analytics.commands.output import width  # noqa: PLC0415 - `--help` is quick

    fits = width()
    return [line] if fits is None else wrap(line, fits, subsequent_indent=" " * indent)
