"""The app that `costs dashboard` serves: what was spent, by whom, and one call in parts.

It asks when the ledger has published something new, or something else was chosen.
"""
# mypy: ignore-errors
# ruff: noqa: ANN001, BLE001, ANN202, B018, FBT003, N803, PLC0415, PLR0917, PLR1711 - the form that marimo writes

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="voicecosts")


@app.cell
def _(mo, page):
    mo.vstack([mo.Html(page.STYLE), mo.md("# What the calls cost")])
    return


@app.cell
def _(figures, mo):
    period = mo.ui.dropdown(figures.PERIODS, value="30 days", label="period")
    refresh = mo.ui.refresh(options=["5s", "10s", "1m"], default_interval="10s", label="look again")
    mo.hstack([period, refresh], justify="start", gap=1.5, wrap=True)
    return period, refresh


@app.cell
def _(data_dir, figures, get_state, refresh, set_state):
    refresh.value
    _state = figures.state(data_dir)
    if _state != get_state():
        set_state(_state)
    return


@app.cell
def _(data_dir, figures, get_names, get_state, period, set_names):
    get_state()
    try:
        _names = figures.names(period.value, data_dir)
    except Exception:  # the figures say why
        _names = figures.Names()
    if _names != get_names():
        set_names(_names)
    return


@app.cell
def _(get_names, kept, mo, page):
    _offered = get_names()
    mo.stop(_offered is None)

    def _keeping(what, names):
        """Return a choice of names that is kept when there are other names to choose from."""
        options = page.options(names)
        chosen = [shown for shown, name in options.items() if name in kept[what]]
        return mo.ui.multiselect(
            options, value=chosen, label=what, on_change=lambda names: kept.update({what: names})
        )

    tenants = _keeping("tenants", _offered.tenants)
    agents = _keeping("agents", _offered.agents)
    mo.hstack([tenants, agents], justify="start", gap=1.5, wrap=True)
    return agents, tenants


@app.cell
def _(UTC, agents, data_dir, datetime, figures, get_state, mo, page, period, tenants):
    get_state()
    _choice = figures.Choice(
        since=period.value, tenants=tuple(tenants.value), agents=tuple(agents.value)
    )
    try:
        found = figures.look(_choice, data_dir)
    except Exception as error:
        mo.stop(True, mo.Html(page.trouble(figures.words(error, data_dir))))
    now = datetime.now(UTC)
    mo.vstack([mo.Html(page.said(found.by_tenant, now)), mo.Html(page.tiles(found))])
    return found, now


@app.cell
def _(alt, found, mo, page):
    _bars = page.bars(found.by_day)
    _chart = (
        alt.Chart(alt.Data(values=_bars), width="container", height=220)
        .mark_bar()
        .encode(
            x=alt.X("day:O", title="UTC day", axis=alt.Axis(labelOverlap=True)),
            y=alt.Y("cost:Q", title=f"cost, {found.by_day.currency}"),
            color=alt.Color("modality:N", title=None, legend=alt.Legend(orient="bottom")),
            tooltip=["day:O", "modality:N", "cost:Q"],
        )
        .properties(usermeta={"embedOptions": {"actions": False}})  # one of them is a site
    )
    mo.vstack(
        [
            mo.md("## Money by day"),
            *([_chart] if _bars else []),
            mo.Html(page.days(found.by_day)),
        ]
    )
    return


@app.cell
def _(found, mo, page):
    mo.vstack(
        [
            mo.md("## Cost per minute by agent"),
            mo.Html(page.agents(found.by_agent)),
            mo.md("## Margin by tenant"),
            mo.Html(page.tenants(found.by_tenant)),
            mo.md("## Unpriced"),
            mo.Html(page.unpriced(found.by_tenant)),
        ]
    )
    return


@app.cell
def _(found, mo, now, page):
    mo.vstack(
        [
            mo.md("## Unsettled"),
            mo.Html(page.unsettled(found.audit, found.by_tenant.warnings, now)),
            mo.md("## Calls"),
            mo.Html(page.calls(found.calls, found.by_tenant.warnings)),
        ]
    )
    return


@app.cell
def _(found, kept, mo, page):
    _options = page.choices(found.calls)
    _kept = next((shown for shown, name in _options.items() if name == kept["call"]), None)
    listed = mo.ui.dropdown(
        _options,
        value=_kept or next(iter(_options), None),
        label="call",
        searchable=True,
        full_width=True,
        on_change=lambda name: kept.update(call=name),
    )
    mo.vstack([mo.md("## One call"), listed])
    return (listed,)


@app.cell
def _(mo):
    named = mo.ui.text(
        label="or another", placeholder="id, room or job, then Enter", full_width=True
    )
    named
    return (named,)


@app.cell
def _(data_dir, figures, found, listed, mo, named, now, page):
    _name = named.value.strip() or listed.value
    try:
        _shown = page.receipt(figures.receipt(_name, data_dir), now) if _name else ""
    except Exception as error:
        _shown = page.trouble(figures.words(error, data_dir))
    mo.Html(_shown) if found else None
    return


@app.cell
def _(mo):
    get_state, set_state = mo.state(())
    get_names, set_names = mo.state(None)
    kept = {"tenants": [], "agents": [], "call": None}  # what was chosen
    return get_names, get_state, kept, set_names, set_state


@app.cell
def _():
    from datetime import UTC, datetime

    import altair as alt
    import marimo as mo

    from voicecosts.analytics.commands.dashboard_app import figures, page
    from voicecosts.analytics.commands.options import named_folder

    data_dir = named_folder()
    return UTC, alt, data_dir, datetime, figures, mo, page


if __name__ == "__main__":
    app.run()
