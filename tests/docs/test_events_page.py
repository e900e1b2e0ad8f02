"""docs/events.md: written from the structs, complete, and never older than they are."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from voicecosts.producer import events, subjects

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """The program that writes the page."""
    spec = importlib.util.spec_from_file_location("generate_events", DOCS / "generate_events.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def written() -> str:
    """Return the page as it stands in the repository."""
    return (DOCS / "events.md").read_text(encoding="utf-8")


def test_the_page_is_fresh(generator: ModuleType) -> None:
    """The page is what the structs say today."""
    assert written() == generator.page(), "run `python docs/generate_events.py`"


def test_every_field_has_a_meaning_and_no_meaning_lacks_its_field(generator: ModuleType) -> None:
    """A new field is explained on its first day, and a removed one leaves nothing behind."""
    fields = {struct.__name__: set(struct.__struct_fields__) for struct in generator.STRUCTS}
    meanings = {struct: set(meant) for struct, meant in generator.MEANINGS.items()}
    assert meanings == fields
    for meant in generator.MEANINGS.values():
        for field, meaning in meant.items():
            assert re.fullmatch(r"[^|\n]+\.", meaning), field


def test_every_struct_of_the_contract_is_on_the_page(generator: ModuleType) -> None:
    """No struct that can travel is left out; the envelope is the batch in another reading."""
    declared = {
        value
        for value in vars(events).values()
        if isinstance(value, type) and issubclass(value, msgspec.Struct)
    }
    assert declared - {msgspec.Struct, events.Envelope, events.Meter} == set(generator.STRUCTS)


def test_every_link_on_the_page_has_its_heading() -> None:
    """A type that is linked has its own heading."""
    page = written()
    headings = {heading.lower() for heading in re.findall(r"^## (\w+)$", page, re.MULTILINE)}
    assert set(re.findall(r"\]\(#(\w+)\)", page)) <= headings


def test_the_example_is_a_batch_and_the_schema_is_the_contracts(generator: ModuleType) -> None:
    """What the page shows as JSON is the encoded example and the schema of the structs."""
    example, schema = (
        json.loads(block) for block in re.findall(r"```json\n(.*?)```", written(), re.DOTALL)
    )
    data = events.encode(generator.EXAMPLE)
    assert msgspec.msgpack.decode(data) == example
    assert events.decode(data) == generator.EXAMPLE
    assert f"{len(data)} bytes" in written()
    assert schema == msgspec.json.schema(events.Batch)


def test_the_page_names_the_agent_of_reports_as_it_is(generator: ModuleType) -> None:
    """The text speaks of the token that the producer really uses."""
    assert f"`{subjects.REPORTS}`" in generator.INTRODUCTION


@pytest.mark.parametrize(("arguments", "status"), [(["--check"], 0), (["--write"], 2)])
def test_the_program_checks_and_refuses(arguments: list[str], status: int, tmp_path: Path) -> None:
    """It runs from any folder; `--check` passes for a fresh page, unknown words are refused."""
    ran = subprocess.run(
        [sys.executable, DOCS / "generate_events.py", *arguments],
        cwd=tmp_path,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == status


def test_a_stale_page_is_noticed_and_rewritten(
    generator: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--check` fails for a page that is absent or old and leaves it alone; writing mends it."""
    page = tmp_path / "events.md"
    monkeypatch.setattr(generator, "PAGE", page)
    assert generator.main(["--check"]) == 1
    assert not page.exists()
    page.write_text("old")
    assert generator.main(["--check"]) == 1
    assert page.read_text() == "old"
    assert generator.main([]) == 0
    assert generator.main(["--check"]) == 0
