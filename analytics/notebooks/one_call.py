"""One call, taken apart: its cost by modality and turn by turn, at which prices, and every single reading.

Open it with `marimo edit`, or run it headless with `python` or `marimo export html`. It shows the call of
`-- --call ID`, else the newest one, in the data directory of `-- --data-dir DIR`, of `COSTS_DATA_DIR`, or of
this user. As `costs call` does, it books what workers without a server left on this host; it changes nothing
else.
"""
# mypy: ignore-errors
# ruff: noqa: ANN001, BLE001, FBT003, ANN202, B018, INP001, PLC0415, PLR1711 - the form that marimo writes

import marimo

__generated_with = "0.25.2"
app = marimo.App(
    width="medium",
    app_title="What did this call cost?",
    sql_output="native",
)


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    # What did this call cost?

    Name a call: its id or the beginning of one, its room, its job, or `last`. Money is exact, times are UTC. What
    has no price is `unpriced`, never zero.
    """)
    return


@app.cell(hide_code=True)
def _(mo):
    name = mo.ui.text(
        value=mo.cli_args().get("call") or "last", label="call", full_width=True, debounce=True
    )
    name
    return (name,)


@app.cell
def _(call, connect, mo, name):
    data_dir = mo.cli_args().get("data-dir")
    try:
        receipt = call(name.value, data_dir=data_dir)
        ledger = connect(data_dir)
    except Exception as error:
        mo.stop(True, mo.callout(mo.plain_text(str(error)), kind="danger"))
    return ledger, receipt


@app.cell(hide_code=True)
def _(mo, money, receipt, style, text):
    _call = receipt.call
    _rows = {
        "call": str(_call.session),
        "tenant": "(none)" if _call.tenant is None else _call.tenant,
        "agent": _call.agent or "",
        "project": _call.project or "",
        "room": _call.room or "",
        "started": f"{_call.started_at:%Y-%m-%d %H:%M:%S}Z",
        "length": "not known" if _call.length_seconds is None else f"{_call.length_seconds:f} s",
        "state": _call.state,
        "cost": f"{money(receipt.total.cost)} {receipt.currency}",
        "list price": f"{money(receipt.total.list_cost)} {receipt.currency}",
        "billed": "unbilled"
        if receipt.total.billed is None
        else f"{receipt.total.billed:f} {receipt.currency}",
        "per minute": "not known"
        if _call.cost_per_minute is None
        else f"{_call.cost_per_minute:f} {receipt.currency}",
    }
    _lines = "".join(f"<tr><th>{head}</th><td>{text(it)}</td></tr>" for head, it in _rows.items())
    mo.Html(f'{style}<div class="rows"><table>{_lines}</table></div>')
    return


@app.cell(hide_code=True)
def _(mo, receipt, text):
    _sentences = (receipt.completeness.said, *receipt.warnings, *receipt.notes)
    _said = mo.Html("".join(f"<p>{text(sentence)}</p>" for sentence in _sentences))
    mo.callout(_said, kind="success" if receipt.completeness.whole else "warn")
    return


@app.cell(hide_code=True)
def _(mo, receipt):
    mo.md("""
    ## By modality
    """) if receipt else None
    return


@app.cell(hide_code=True)
def _(money, receipt, table):
    _numbers = ["cost", "requests", "tokens in", "tokens out", "characters", "audio s"]
    table(
        ["modality", *_numbers],
        [
            [
                it.group["modality"],
                money(it.cost),
                f"{it.requests:,}",
                f"{it.input_tokens:,}",
                f"{it.output_tokens:,}",
                f"{it.characters:,}",
                f"{it.audio_seconds:,.1f}",
            ]
            for it in receipt.parts
        ],
        _numbers,
    )
    return


@app.cell(hide_code=True)
def _(mo, receipt):
    mo.md("""
    ## Turn by turn

    What was asked for one speech is a turn. What belongs to none (speech recognition, connected time) is `in no
    turn`, and what operations booked is apart; all of it together is the cost of the call.
    """) if receipt else None
    return


@app.cell(hide_code=True)
def _(alt, mo, receipt):
    # A bar is a picture of money, not money: only here is it a binary number.
    bars = [
        {"turn": at, "modality": modality, "cost": float(cost)}
        for at, turn in enumerate(receipt.turns, 1)
        for modality, cost in turn.costs.items()
        if cost is not None
    ]
    chart = (
        alt.Chart(alt.Data(values=bars), width="container", height=220)
        .mark_bar()
        .encode(
            x=alt.X("turn:O", title="turn"),
            y=alt.Y("cost:Q", title="cost, USD"),
            color=alt.Color("modality:N", title=None),
            tooltip=["turn:O", "modality:N", "cost:Q"],
        )
    )
    chart if bars else mo.plain_text(receipt.detail_missing or "no turns with a price")
    return


@app.cell(hide_code=True)
def _(money, receipt, table):
    _rest = [("in no turn", receipt.outside), ("operations", receipt.by_operations)]
    _every = [(str(at), it) for at, it in enumerate(receipt.turns, 1)]
    _every += [(head, it) for head, it in _rest if it is not None]
    _numbers = ["cost", "requests", "cut off", "tokens in", "tokens out", "characters"]
    table(
        ["turn", "first at", *_numbers],
        [
            [
                head,
                f"{it.first_at:%H:%M:%S}Z",
                money(it.cost),
                f"{it.requests:,}",
                f"{it.cancelled:,}",
                f"{it.input_tokens:,}",
                f"{it.output_tokens:,}",
                f"{it.characters:,}",
            ]
            for head, it in _every
        ],
        _numbers,
    )
    return


@app.cell(hide_code=True)
def _(mo, receipt):
    mo.md("""
    ## At which prices
    """) if receipt else None
    return


@app.cell(hide_code=True)
def _(money, receipt, table):
    table(
        ["modality", "provider", "model", "tier", "estimated", "cost", "price"],
        [
            [
                it.modality,
                it.provider,
                it.model,
                it.service_tier or "(standard)",
                "yes" if it.estimated else "",
                money(it.cost),
                it.price or "none",
            ]
            for it in receipt.priced
        ],
        ["cost"],
    )
    return


@app.cell(hide_code=True)
def _(mo, receipt):
    mo.md("""
    ## Every reading

    SQL over the view `usage`, which has single readings as long as they are kept. Change it.
    """) if receipt else None
    return


@app.cell
def _(ledger, receipt):
    readings = ledger.sql(
        """
        SELECT
            occurred_at,
            modality,
            provider,
            model,
            cost,
            unpriced_reason,
            requests,
            input_tokens,
            output_tokens,
            characters,
            audio_seconds,
            time_to_first_us * 0.001 AS time_to_first_ms,
            cancelled,
            operation
        FROM usage
        WHERE session_id = $session AND project = $project
        ORDER BY place
        """,
        params={"session": receipt.call.session, "project": receipt.call.project or ""},
    )
    return (readings,)


@app.cell(hide_code=True)
def _(money, readings, table):
    _names, _types = readings.columns, readings.types
    _words = ("VARCHAR", "BOOLEAN", "UUID", "DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE")
    table(
        _names,
        [
            [money(it) if name == "cost" else it for name, it in zip(_names, row, strict=True)]
            for row in readings.fetchall()
        ],
        [name for name, kind in zip(_names, _types, strict=True) if str(kind) not in _words],
    )
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ---
    How the cells above reach the ledger. `call` books what waits on this host, and says in its answer whether
    something is missing; `connect` follows the link to the newest snapshot.
    """)
    return


@app.cell
def _(mo):
    from html import escape

    def text(value):
        """Return a value as text of a page: nothing of it is markup, whoever chose it."""
        shown = "" if value is None else str(value)
        return escape("".join(it if it.isprintable() else ascii(it)[1:-1] for it in shown))

    def money(amount):
        return "unpriced" if amount is None else f"{amount:f}"

    style = """<style>
    .rows { overflow: auto; max-height: 32rem; }
    .rows table { border-collapse: collapse; width: max-content; margin: 0; }
    .rows th, .rows td { padding: 0.2rem 1.25rem 0.2rem 0; text-align: left; vertical-align: top; }
    .rows th, .rows td { max-width: 24rem; overflow-wrap: break-word; }
    .rows .number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
    </style>"""

    def table(heads, rows, numbers):
        """Show rows as a table that scrolls by itself; the columns `numbers` stand on the right."""
        if not rows:
            return mo.plain_text("no rows")
        sides = [' class="number"' if it in numbers else "" for it in heads]

        def line(kind, cells):
            each = zip(cells, sides, strict=True)
            return "".join(f"<{kind}{side}>{text(it)}</{kind}>" for it, side in each)

        body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
        found = f"<table><tr>{line('th', heads)}</tr>{body}</table>"
        return mo.Html(f'{style}<div class="rows">{found}</div>')

    return money, style, table, text


@app.cell
def _():
    import altair as alt
    import marimo as mo

    from voicecosts import call, connect

    return alt, call, connect, mo


if __name__ == "__main__":
    app.run()
