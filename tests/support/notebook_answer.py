"""What the notebook says of a data directory: its cells are run, and what they say is JSON."""

from __future__ import annotations

import json
import os
import sys

from tests.analytics.test_notebook import run_cells
from voicecosts.analytics.text.plain import plain_completeness, plain_moment


def main(data_dir: str) -> None:
    """Run the notebook on a data directory."""
    os.environ["COSTS_DATA_DIR"] = data_dir
    shown, variables = run_cells()
    answer = variables["overall"]
    rows = variables["records"](variables["by_model"])
    said = {
        "as_of": plain_moment(answer.as_of),
        "completeness": plain_completeness(answer.completeness),
        "says_whole": "Nothing is missing" in "\n".join(shown),
        "costs": {row["model"]: str(row["cost"]) for row in rows},
    }
    print(json.dumps(said))  # noqa: T201 - the answer


if __name__ == "__main__":
    main(sys.argv[1])
