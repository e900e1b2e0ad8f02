"""Choosing a model: what each costs by call and by unit, how quick it is, and what another would have cost.

Open it with `marimo edit`, or run it headless with `python` or `marimo export html`. It reads the data
directory of `-- --data-dir DIR`, of `COSTS_DATA_DIR`, or of this user. As `costs query` does, it books
what workers without a server left on this host; it changes nothing else.
"""
# mypy: ignore-errors
# ruff: noqa: ANN001, BLE001, FBT003, ANN202, B018, INP001, PLC0415, PLR1711 - the form that marimo writes

import marimo

__generated_with = "0.25.2"
app = marimo.App(
    width="medium",
    app_title="Which model?",
    sql_output="native",
)


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    # Which model?

    What the models of your calls cost, how quick they were, and what the same usage would have cost at
    other prices. Money is exact; what has no price is `unpriced`, never zero.
    """)
    return


@app.cell
def _(connect, mo, query):
    data_dir = mo.cli_args().get("data-dir")
    try:
        overall = query("modality", data_dir=data_dir)  # books first what waits on this host
        ledger = connect(data_dir)
    except Exception as error:
        mo.stop(True, mo.callout(mo.plain_text(str(error)), kind="danger"))
    return ledger, overall


@app.cell(hide_code=True)
def _(mo, overall, text):
    _sentences = (overall.completeness.said, *overall.warnings, *overall.notes)
    _said = mo.Html("".join(f"<p>{text(sentence)}</p>" for sentence in _sentences))
    mo.callout(_said, kind="success" if overall.completeness.whole else "warn")
    return


@app.cell(hide_code=True)
def _(ledger, mo):
    mo.md("""
    ## What each costs

    By call and by what it is billed by. A model of which a part has no price is marked: its costs are of the
    part that has one.
    """) if ledger else None
    return


@app.cell
def _(ledger):
    by_model = ledger.sql(
        """
        SELECT
            modality,
            provider,
            model,
            summed(cost, priced_meters, meters) AS cost,
            count(DISTINCT (project, session_id)) FILTER (
                operation IS NULL
                AND (project, session_id) NOT IN (SELECT (project, session_id) FROM voided)
            ) AS calls,
            sum(input_tokens)::BIGINT AS input_tokens,
            sum(cache_read_input_tokens)::BIGINT AS cached_tokens,
            sum(output_tokens)::BIGINT AS output_tokens,
            sum(characters)::BIGINT AS characters,
            sum(audio_us)::BIGINT AS audio_us,
            sum(priced_meters) < sum(meters) AS lacks_a_price
        FROM session_usage
        WHERE session_id IS NOT NULL  -- an adjustment is of no call
            AND modality NOT IN ('agent_session', 'participant', 'telephony')
        GROUP BY modality, provider, model
        ORDER BY modality, cost DESC NULLS LAST, provider, model
        """
    )
    models = [dict(zip(by_model.columns, row, strict=True)) for row in by_model.fetchall()]
    return (models,)


@app.cell(hide_code=True)
def _(each, models, money, share, table):
    _numbers = ["cost", "calls", "per call", "per 1M tokens, in and out"]
    _numbers += ["per 1,000 characters", "per minute of audio", "cached input"]
    table(
        ["modality", "provider", "model", *_numbers, ""],
        [
            [
                it["modality"],
                it["provider"],
                it["model"],
                money(it["cost"]),
                f"{it['calls']:,}",
                each(it["cost"], it["calls"]),
                each(it["cost"], it["input_tokens"] + it["output_tokens"], 1_000_000),
                each(it["cost"], it["characters"], 1_000),
                each(it["cost"], 0 if it["characters"] else it["audio_us"], 60_000_000),
                share(it["cached_tokens"], it["input_tokens"]),
                "in part unpriced" if it["lacks_a_price"] and it["cost"] is not None else "",
            ]
            for it in models
        ],
        _numbers,
    )
    return


@app.cell(hide_code=True)
def _(ledger, mo):
    mo.md("""
    ## How quick each is

    Of single requests, as long as they are kept: half of them, and nine of ten, had their first token or byte
    by then.
    """) if ledger else None
    return


@app.cell
def _(ledger):
    quick = ledger.sql(
        """
        SELECT
            modality,
            provider,
            model,
            count(*) AS requests,
            round(quantile_disc(time_to_first_us, 0.5) * 0.001)::BIGINT AS half_ms,
            round(quantile_disc(time_to_first_us, 0.9) * 0.001)::BIGINT AS nine_of_ten_ms,
            count(*) FILTER (cancelled) AS cut_off
        FROM usage
        WHERE time_to_first_us > 0
        GROUP BY modality, provider, model
        ORDER BY modality, half_ms, provider, model
        """
    )
    return (quick,)


@app.cell(hide_code=True)
def _(quick, table):
    _numbers = ["requests", "half, ms", "nine of ten, ms", "cut off"]
    table(
        ["modality", "provider", "model", *_numbers],
        [[f"{it:,}" if isinstance(it, int) else it for it in row] for row in quick.fetchall()],
        _numbers,
    )
    return


@app.cell(hide_code=True)
def _(ledger, mo):
    mo.md("""
    ## What another would have cost

    The same usage at other prices, in US dollars. Another model may use other amounts: it counts tokens in its own way,
    and answers at another length. `costs rerate --help` shows how to book prices.
    """) if ledger else None
    return


@app.cell(hide_code=True)
def _(mo, models):
    _named = {f"{it['modality']}: {it['provider']} / {it['model']}": it for it in models}
    chosen = mo.ui.dropdown(
        _named, value=next(iter(_named), None), label="the usage of", full_width=True
    )
    prices = mo.ui.dictionary(
        {
            "input": mo.ui.text("0.40", label="per 1M input tokens"),
            "cached": mo.ui.text("0.10", label="per 1M cached input tokens"),
            "output": mo.ui.text("1.60", label="per 1M output tokens"),
            "characters": mo.ui.text("0.03", label="per 1,000 characters"),
            "audio": mo.ui.text("0.006", label="per minute of audio"),
        }
    )
    mo.vstack([chosen, mo.hstack(list(prices.values()), wrap=True, justify="start")])
    return chosen, prices


@app.cell(hide_code=True)
def _(chosen, mo, money, prices, priced):
    _used = chosen.value
    would = priced(_used, prices.value) if _used else None
    if would is None:
        _said = "a price is no number: write it in digits, such as 0.40" if _used else "no rows"
        _shown = mo.plain_text(_said)
    else:
        _shown = mo.hstack(
            [
                mo.stat(money(_used["cost"]), label="it cost, USD", bordered=True),
                mo.stat(money(would), label="it would have cost, USD", bordered=True),
            ],
            justify="start",
            wrap=True,
        )
    _shown
    return (would,)


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ---
    How the cells above reach the ledger. `query` books what waits on this host, and says in its answer
    whether something is missing; `connect` follows the link to the newest snapshot.
    """)
    return


@app.cell
def _():
    from decimal import Context, Decimal, InvalidOperation

    exact = Context(prec=50)

    def money(amount):
        return "unpriced" if amount is None else f"{amount:f}"

    def each(cost, amount, unit=1):
        """Return what so many of an amount cost, to a millionth of a dollar."""
        known = cost is not None and amount
        return f"{exact.divide(cost * unit, Decimal(amount)):.6f}" if known else ""

    def share(part, whole):
        return f"{exact.divide(Decimal(100 * part), Decimal(whole)):.0f} %" if whole else ""

    def priced(used, prices):
        """Return what a model's usage costs at some prices, to a billionth; None where one is no number."""
        try:
            price = {name: Decimal(it) for name, it in prices.items()}
        except InvalidOperation:
            return None
        if not all(it.is_finite() for it in price.values()):
            return None
        amounts = [
            (used["input_tokens"] - used["cached_tokens"], price["input"], 1_000_000),
            (used["cached_tokens"], price["cached"], 1_000_000),
            (used["output_tokens"], price["output"], 1_000_000),
        ]
        if used["characters"]:  # speech is billed by its text, and what was heard by its length
            amounts.append((used["characters"], price["characters"], 1_000))
        else:
            amounts.append((used["audio_us"], price["audio"], 60_000_000))
        legs = [exact.divide(amount * per, Decimal(unit)) for amount, per, unit in amounts]
        return sum(legs).quantize(Decimal("0.000000001"))

    return each, money, priced, share


@app.cell
def _(mo):
    from html import escape

    def text(value):
        """Return a value as text of a page: nothing of it is markup, whoever chose it."""
        shown = "" if value is None else str(value)
        return escape("".join(it if it.isprintable() else ascii(it)[1:-1] for it in shown))

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

    return table, text


@app.cell
def _():
    import marimo as mo

    from voicecosts import connect, query

    return connect, mo, query


if __name__ == "__main__":
    app.run()
