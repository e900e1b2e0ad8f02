"""The command `costs query`: the options of `voicecosts.query`, and its answer as text.

What cannot be asked or read is raised, and `exits` turns it into an exit code.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperCommand

from voicecosts.analytics.answers.report import CURRENCY
from voicecosts.analytics.commands.exits import FAILED, OK, OVER
from voicecosts.analytics.commands.options import (
    TOP,
    DataDirOrSnapshot,
    Format,
    Output,
    Since,
    Until,
    Where,
)
from voicecosts.analytics.errors import BadQuestion
from voicecosts.analytics.numbers import money
from voicecosts.analytics.text.grid import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from voicecosts.analytics.answers.report import Finding, Row

app = typer.Typer(rich_markup_mode=None)

_EXAMPLES = """\b
Examples:
  costs query
  costs query --by agent,model --since 7d --top 20
  costs query --by day --where tenant=acme --since 2026-11-01 --until 2026-12-01
  costs query --by agent --metric calls,minutes,cost_per_minute --sort cost_per_minute
  costs query --by day --since 2026-11 --timezone Europe/Berlin
  costs query --since this-week --compare last-week --by agent,model
  costs query --by agent --since today --watch
  costs query --since this-month --strict --fail-over 500
  costs query --by session --where 'tenant=(none)' --format csv > no-tenant.csv
"""
DIGITS: Final = 4
LOOK_S: Final = "2"
"""How often `--watch` looks without a number, as it is typed."""


class _Query(TyperCommand):
    """The command, whose `--watch` may stand alone: Typer knows no option that may have a value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments, with the seconds that `--watch` lacks."""
        found = []
        for it, following in zip(args, [*args[1:], ""], strict=False):
            found.append(it)
            if it == "--watch" and not _SECONDS.fullmatch(following):
                found.append(LOOK_S)
        return super().parse_args(ctx, found)


_SECONDS: Final = re.compile(r"-?[0-9]*\.?[0-9]+")


@app.command(cls=_Query, epilog=_EXAMPLES)
def query(
    *,
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN,…",
            help="Group by tenant, agent, agent_label, project, provider, model, modality, "
            "service_tier, session, turn, room, job, deployment, outcome, label.NAME, hour, day, week, month or corrects (the "
            "closed month): several with commas, or the option again. All of a call is in the hour, day, week and "
            "month in which it started (--timezone). A turn is told with its session, and needs single rows.  "
            "[default: tenant]",
        ),
    ] = None,
    since: Since = None,
    until: Until = None,
    where: Where = None,
    top: Annotated[int | None, TOP] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN[:asc|:desc]",
            help="Order by a grouped column or by a metric, whether it is shown or not.  [default: cost]",
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME,…",
            help="Show these: cost, billed, margin (what is billed less the cost), list_cost, estimated_cost, calls, "
            "minutes (from start to end of the calls of a row, each counted once), cost_per_call, cost_per_minute, "
            "billed_per_call, billed_per_minute, successful_calls, cost_per_successful_call (what all calls of a row cost, by "
            "those whose outcome is success), requests, tokens, input_tokens, output_tokens, characters, "
            "audio_seconds, session_seconds, rows, unpriced_requests and whatever else JSON has. JSON and CSV have "
            "them beside the others. A ratio is rounded half to even, to nine digits.",
        ),
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(
            metavar="PERIOD",
            help="Beside each row the same in another period, and what changed: previous (as long, just before), "
            "last-week or last-month (the same days earlier), or a period such as 2026-10, 2026-W47, yesterday or "
            "2026-10-01..2026-10-15. It is the metrics that are compared, the cost without any, and rows come by how "
            "much the first one changed (--sort change:desc has what grew first). Needs --since.",
        ),
    ] = None,
    timezone: Annotated[
        str,
        typer.Option(
            metavar="ZONE",
            help="The time zone of hours, days, weeks and months, and of --since and --until: Europe/Berlin. A call is "
            "in those in which it started there; an hour is told with its offset.",
        ),
    ] = "UTC",
    digits: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            max=9,
            help="Digits of money in a table, behind the point. JSON and CSV have all.",
        ),
    ] = DIGITS,
    exact: Annotated[bool, typer.Option("--exact", help="All digits of money in a table.")] = False,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Exit with 1 unless every source was asked and nothing is missing from the answer, prices "
            "included.",
        ),
    ] = False,
    fail_over: Annotated[
        str | None,
        typer.Option(
            metavar="AMOUNT",
            help=f"Exit with {OVER} when the total costs more than so many US dollars, as far as it has prices, and with 1 "
            "when nothing has a name that is asked for.",
        ),
    ] = None,
    watch_s: Annotated[
        float | None,
        typer.Option(
            "--watch",
            metavar="[SECONDS]",
            min=0.1,
            max=86400,
            help="Show the answer in place until Ctrl-C, and ask again when the ledger has published something newer, "
            "something waits on this host, or a minute is over. It looks every 2 seconds, or so many.",
        ),
    ] = None,
    output: Output = Format.TABLE,
    data_dir: DataDirOrSnapshot = None,
) -> None:
    """Show what was spent, by tenant, agent or model.

    Reads the ledger's newest snapshot, which does not disturb the ledger. What workers without a
    server left on this host is booked first. What has no price is shown as unpriced, never as zero.
    """
    from voicecosts.analytics.commands import asking  # noqa: PLC0415 - `costs --help` must start fast
    from voicecosts.analytics.commands.output import (  # noqa: PLC0415 - same
        require_for,
        write_comparison,
        write_rows,
    )
    from voicecosts.analytics.commands.spill import spilling  # noqa: PLC0415 - same

    limit = _amount(fail_over)
    if watch_s is not None and (output is not Format.TABLE or strict or limit is not None):
        raise BadQuestion(
            "--watch goes on until Ctrl-C, and shows a table: leave out --format, --strict and --fail-over, which are for "
            "programs"
        )
    require_for(output, needed_by="`costs query`")
    shown = None if exact else digits
    asked: dict[str, Any] = {
        "since": since,
        "until": until,
        "where": where or (),
        "top": top,
        "sort": sort,
        "metric": metric or (),
        "timezone": timezone,
        "data_dir": data_dir,
    }
    columns = by or ("tenant",)
    if watch_s is not None:
        _watch(columns, asked, compare, digits=shown, every_s=watch_s)
        return
    with spilling() as spill:
        if compare is not None:
            found = asking.comparing(columns, compare, **asked, spill=spill)
            write_comparison(found, output, now=datetime.now(UTC), digits=shown)
            code = _failed(found.findings, found.total.now, limit, whole=found.whole, strict=strict)
        else:
            with asking.answering(columns, **asked, spill=spill) as (report, rows):
                write_rows(report, rows, output, now=datetime.now(UTC), digits=shown)
            missing = report.completeness
            code = _failed(
                missing.findings, report.total, limit, whole=missing.whole, strict=strict
            )
    if code:
        raise typer.Exit(code)


def _watch(
    columns: Sequence[str],
    asked: dict[str, Any],
    compare: str | None,
    *,
    digits: int | None,
    every_s: float,
) -> None:
    """Show the answers to a question until Ctrl-C; of a long one the first rows."""
    from voicecosts.analytics.commands import asking  # noqa: PLC0415 - `costs --help` must start fast
    from voicecosts.analytics.commands.output import ink  # noqa: PLC0415 - same
    from voicecosts.analytics.commands.spill import spilling  # noqa: PLC0415 - same
    from voicecosts.analytics.commands.watch import Show, check, watch  # noqa: PLC0415 - same
    from voicecosts.analytics.text import compared, costs  # noqa: PLC0415 - same

    def ask() -> Show:
        with spilling() as spill:
            if compare is not None:
                found = asking.comparing(columns, compare, **asked, spill=spill)
                return lambda now, width: compared.as_table(
                    found, now=now, width=width, digits=digits, ink=ink()
                )
            with asking.answering(columns, **asked, spill=spill) as (report, rows):
                some = list(islice(rows, costs.WIDTHS_OF))
        return lambda now, width: "".join(
            costs.table_parts(report, some, now=now, width=width, digits=digits, ink=ink())
        )

    check()
    watch(ask, asked["data_dir"], every_s=every_s)


def _amount(text: str | None) -> Decimal | None:
    """Return an amount of money; raises `BadQuestion` for a text that is none."""
    if text is None:
        return None
    if not _AMOUNT.fullmatch(text.strip()):
        raise BadQuestion(
            f"--fail-over {text!r} is no amount: write US dollars such as 500 or 12.50"
        )
    return Decimal(text.strip())


_AMOUNT: Final = re.compile(r"[0-9]{1,20}(\.[0-9]{1,9})?")


def _failed(
    findings: Iterable[Finding],
    total: Row | None,
    limit: Decimal | None,
    *,
    whole: bool | None,
    strict: bool,
) -> int:
    """Return the exit code of an answer that was to be whole, or below an amount, and say why it is not.

    What is asked by a name that nothing has is below any amount, and that is no answer either.
    """
    from voicecosts.analytics.answers.report import Source  # noqa: PLC0415 - `costs --help` must start fast

    findings = tuple(findings)
    cost = None if total is None else total.cost
    is_over = limit is not None and cost is not None and cost > limit
    code = OVER if is_over else OK
    if strict and whole is not True:
        why = printable("; ".join(it.text for it in findings))
        said = "--strict asks for a whole answer"
        said = said if is_over else f"the exit code is {FAILED} because of --strict"
        typer.echo(f"{said}: {why}", err=True)
        code = code or FAILED
    unseen = [it.text for it in findings if it.source is Source.QUESTION]
    if limit is not None and unseen and not code:
        said = f"the exit code is {FAILED} because of --fail-over: {printable(unseen[0])}"
        typer.echo(said, err=True)
        code = FAILED
    if limit is not None and cost is not None and is_over:
        said = f"{money(cost)} {CURRENCY} is over {limit:f}"
        typer.echo(f"the exit code is {OVER} because of --fail-over: {said}", err=True)
    return code
