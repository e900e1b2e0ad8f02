"""The SQL of the Grafana dashboard as the DuckDB data source sends it: macros and variables filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).parents[2] / "analytics" / "grafana" / "voicecosts.json"
DASHBOARD: Final[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
PANELS: Final[dict[str, str]] = {
    panel["title"]: panel["targets"][0]["rawSql"] for panel in DASHBOARD["panels"]
}
VARIABLES: Final[dict[str, str]] = {
    each["name"]: each["query"]
    for each in DASHBOARD["templating"]["list"]
    if each["type"] == "query"
}

_FILTER: Final = re.compile(r"\$__timeFilter\(([^()]+)\)")


def filled(
    sql: str,
    *,
    tenants: Sequence[str],
    agents: Sequence[str],
    since: str = "2000-01-01T00:00:00Z",
    until: str = "2100-01-01T00:00:00.000Z",
) -> str:
    """Return a panel's SQL for a period and what is chosen.

    `$__timeFilter` becomes two comparisons with RFC 3339 texts, `:sqlstring` quoted values with commas between.
    """
    sql = _FILTER.sub(rf"\1 >= '{since}' AND \1 <= '{until}'", sql)
    for name, values in (("tenant", tenants), ("agent", agents)):
        quoted = ",".join("'{}'".format(it.replace("'", "''")) for it in values)
        sql = sql.replace(f"${{{name}:sqlstring}}", quoted)
    assert "$" not in sql, f"a macro or variable is left: {sql}"
    return sql
