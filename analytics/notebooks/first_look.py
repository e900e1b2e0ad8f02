"""A first look at the ledger: cost by tenant, by day and by model, and a query of your own.

Open it with `marimo edit`, or run it headless with `python` or `marimo export html`. It reads the data
directory of `-- --data-dir DIR`, of `COSTS_DATA_DIR`, or of this user. As `costs query` does, it books
what workers without a server left on this host; it changes nothing else.
"""
# mypy: ignore-errors
# ruff: noqa: ANN001, BLE001, FBT003, ANN202, B018, F541, INP001, PLC0415, PLR1711 - the form that marimo writes

import marimo

__generated_with = "0.25.2"
app = marimo.App(
    width="medium",
    app_title="What did the calls cost?",
    sql_output="native",
)


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
def _(mo, overall):
    cost = "unpriced" if overall.total.cost is None else f"{overall.total.cost:f}"
    as_of = "; the ledger has received nothing yet"
    if overall.as_of:
        as_of = f", as of {overall.as_of:%Y-%m-%d %H:%M:%S}Z"
    mo.md(f"""
    # What did the calls cost?

    **{cost} {overall.currency}** in **{overall.total.sessions:,}** sessions{as_of}

    Every cell below is SQL over the ledger's views: change them. `session_usage` has the sums, for ever;
    `usage` has single readings, as long as they are kept. Money is exact, times are UTC. What has no price
    costs `NULL`, never zero, and the tables show `unpriced`; the columns `unpriced_…` say how much of it
    there is. A call without a tenant is under `(none)`.
    """)
    return


@app.cell(hide_code=True)
def _(mo, overall, text):
    _sentences = (overall.completeness.said, *overall.warnings, *overall.notes)
    _said = mo.Html("".join(f"<p>{text(sentence)}</p>" for sentence in _sentences))
    mo.callout(_said, kind="success" if overall.completeness.whole else "warn")
    return


@app.cell(hide_code=True)
def _(ledger, mo):
    mo.md("""
    ## By tenant
    """) if ledger else None
    return


@app.cell
def _(ledger, mo):
    by_tenant = mo.sql(
        f"""
        SELECT
            tenant,
            summed(cost, priced_meters, meters) AS cost,
            count(DISTINCT (project, session_id)) FILTER (
                operation IS NULL  -- no adjustment is a call, and no voided call counts
                AND (project, session_id) NOT IN (
                    SELECT (project, session_id) FROM voided WHERE uncounted
                )
            ) AS sessions,
            sum(unpriced_requests)::BIGINT AS unpriced_requests
        FROM session_usage
        GROUP BY tenant
        ORDER BY cost DESC NULLS LAST, tenant
        """,
        output=False,
        engine=ledger,
    )
    return (by_tenant,)


@app.cell(hide_code=True)
def _(by_tenant, show):
    show(by_tenant)
    return


@app.cell(hide_code=True)
def _(ledger, mo):
    mo.md("""
    ## By day
    """) if ledger else None
    return


@app.cell
def _(ledger, mo):
    by_day = mo.sql(
        f"""
        SELECT
            day,
            modality,
            summed(cost, priced_meters, meters) AS cost,
            sum(unpriced_requests)::BIGINT AS unpriced_requests
        FROM session_usage
        GROUP BY day, modality
        ORDER BY day, modality
        """,
        output=False,
        engine=ledger,
    )
    return (by_day,)


@app.cell(hide_code=True)
def _(alt, by_day, records):
    # A bar is a picture of money, not money: only here is it a binary number.
    bars = [
        {"day": str(row["day"]), "modality": row["modality"], "cost": float(row["cost"])}
        for row in records(by_day)
        if row["cost"] is not None
    ]
    chart = (
        alt.Chart(alt.Data(values=bars), width="container", height=240)
        .mark_bar()
        .encode(
            x=alt.X("day:O", title="UTC day"),
            y=alt.Y("cost:Q", title="cost, USD"),
            color=alt.Color("modality:N", title=None),
            tooltip=["day:O", "modality:N", "cost:Q"],
        )
    )
    chart
    return


@app.cell(hide_code=True)
def _(by_day, show):
    show(by_day)
    return


@app.cell(hide_code=True)
def _(ledger, mo):
    mo.md("""
    ## By model
    """) if ledger else None
    return


@app.cell
def _(ledger, mo):
    by_model = mo.sql(
        f"""
        SELECT
            modality,
            provider,
            model,
            summed(cost, priced_meters, meters) AS cost,
            sum(CASE WHEN estimated THEN cost WHEN cost IS NOT NULL THEN 0 END) AS estimated_cost,
            sum(input_tokens) AS input_tokens,
            sum(output_tokens) AS output_tokens,
            sum(characters) AS characters,
            sum(audio_us * 0.000001) AS audio_seconds,
            sum(session_us * 0.000001) AS connected_seconds,
            sum(unpriced_requests)::BIGINT AS unpriced_requests
        FROM session_usage
        GROUP BY modality, provider, model
        ORDER BY cost DESC NULLS LAST, modality, provider, model
        """,
        output=False,
        engine=ledger,
    )
    return (by_model,)


@app.cell(hide_code=True)
def _(by_model, show):
    show(by_model)
    return


@app.cell(hide_code=True)
def _(ledger, mo):
    mo.md("""
    ## A query of your own

    The connection is read-only: nothing you type here can change the ledger.
    """) if ledger else None
    return


@app.cell(hide_code=True)
def _(ledger, mo):
    example = """SELECT
        agent_id,
        agent_label,
        count(*) AS sessions,
        count(*) FILTER (lacks_a_price) AS sessions_that_lack_a_price,
        median(cost) AS median_cost,
        max(cost) AS highest_cost
    FROM (
        SELECT
            project,
            session_id,
            agent_id,
            agent_label,
            summed(cost, priced_meters, meters) AS cost,
            sum(priced_meters) < sum(meters) AS lacks_a_price
        FROM session_usage
        WHERE (project, session_id) NOT IN (SELECT (project, session_id) FROM voided)
        GROUP BY ALL
        HAVING count(*) FILTER (operation IS NULL) > 0
    )
    GROUP BY agent_id, agent_label
    ORDER BY median_cost DESC NULLS LAST
    LIMIT 20"""
    own = mo.ui.code_editor(example, language="sql", min_height=160).form(submit_button_label="Run")
    own if ledger else None
    return example, own


@app.cell(hide_code=True)
def _(example, ledger, mo, own, show):
    try:
        _answer = show(ledger.sql(own.value or example))
    except Exception as error:
        _said = f"DuckDB cannot run this query:\n\n{error}"
        _answer = mo.callout(mo.plain_text(_said), kind="danger")
    _answer
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ---
    How the cells above reach the ledger. `query` books what waits on this host, and says in its answer
    whether something is missing; `connect` follows the link to the newest snapshot; without
    this package `duckdb.connect("…/costs.duckdb", read_only=True)` opens the same one.
    """)
    return


@app.cell
def _(mo):
    from decimal import Decimal
    from html import escape

    most = 1_000  # rows of a table; a query of one's own may have millions
    on_the_left = ("VARCHAR", "BOOLEAN", "UUID", "DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE")
    style = """<style>
    .rows { overflow: auto; max-height: 32rem; }
    .rows table { border-collapse: collapse; width: max-content; margin: 0; }
    .rows th, .rows td { padding: 0.2rem 1.25rem 0.2rem 0; text-align: left; vertical-align: top; }
    .rows th, .rows td { max-width: 24rem; overflow-wrap: break-word; }
    .rows .number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
    </style>"""

    def records(relation):
        """Return the rows of a query as mappings; exact numbers stay exact."""
        names = relation.columns
        return [dict(zip(names, row, strict=True)) for row in relation.fetchall()]

    def text(value):
        """Return a value as text of a page: nothing of it is markup or a link, whoever chose it."""
        return escape("".join(it if it.isprintable() else ascii(it)[1:-1] for it in str(value)))

    def cell(name, value):
        if value is None:
            return "(none)" if name == "tenant" else "unpriced" if "cost" in name else ""
        return text(f"{value:f}" if isinstance(value, Decimal) else value)

    def show(relation):
        """Show the rows of a query as a table that scrolls by itself, with neither pandas nor polars."""
        rows = records(relation)
        if not rows:
            return mo.plain_text("no rows")
        types = zip(relation.columns, relation.types, strict=True)
        sides = {
            name: "" if str(kind) in on_the_left else ' class="number"' for name, kind in types
        }
        head = "".join(f"<th{side}>{text(name)}</th>" for name, side in sides.items())
        body = "".join(
            "<tr>"
            + "".join(f"<td{sides[name]}>{cell(name, it)}</td>" for name, it in row.items())
            + "</tr>"
            for row in rows[:most]
        )
        table = f"<table><tr>{head}</tr>{body}</table>"
        more = f"<p>{most:,} of {len(rows):,} rows shown</p>" if len(rows) > most else ""
        return mo.Html(f'{style}<div class="rows">{table}</div>{more}')

    return records, show, text


@app.cell
def _():
    import altair as alt
    import marimo as mo

    from voicecosts import connect, query

    return alt, connect, mo, query


if __name__ == "__main__":
    app.run()
