"""Discovery: one agent in each file of a directory, as it arrives in a job process as well."""

from __future__ import annotations

import pickle
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from openrtc import AgentPool as OpenRTCPool

from voicecosts import AgentPool
from voicecosts.producer.errors import (
    BrokenAgentModule,
    DiscoveryFailed,
    InvalidRegistration,
    NoAgents,
)
from voicecosts.producer.pool.modules import is_discovered, module_name

AGENT = """
from livekit.agents import Agent
from voicecosts import agent_config
from tests.support.pool_agents import Dental as Imported, make_llm

{mark}
class {name}(Agent):
    def __init__(self):
        super().__init__(instructions="x")
"""


@pytest.fixture(autouse=True)
def _unloaded() -> Iterator[None]:
    """Every test loads its own modules."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if is_discovered(name):
            del sys.modules[name]


def write(folder: Path, file: str, mark: str = "", name: str = "Found") -> Path:
    """Write an agent module."""
    path = folder / file
    path.write_text(AGENT.format(mark=mark, name=name))
    return path


def test_each_file_is_an_agent_in_the_order_of_the_file_names(tmp_path: Path) -> None:
    """Each file is one agent, named as the file, and the first file is the default."""
    for file in ("support.py", "dental.py", "restaurant_2.py"):
        write(tmp_path, file)
    pool = AgentPool()
    found = pool.discover(tmp_path)
    assert [config.name for config in found] == ["dental", "restaurant_2", "support"]
    assert pool.list_agents() == ["dental", "restaurant_2", "support"]
    assert found[0].source_path == tmp_path.resolve() / "dental.py"


def test_the_decorators_name_beats_the_files(tmp_path: Path) -> None:
    """A name in the decorator wins over the file's name."""
    write(tmp_path, "a.py", "@agent_config(name='dental', greeting='Hello')")
    (found,) = AgentPool(default_greeting="Hi").discover(str(tmp_path))
    assert (found.name, found.greeting) == ("dental", "Hello")


def test_the_decorator_leaves_the_class_as_it_is(tmp_path: Path) -> None:
    """A decorated class stays a plain agent, which can be used without a pool."""
    write(tmp_path, "a.py", "@agent_config(stt='deepgram/nova-3')", name="Plain")
    (found,) = AgentPool().discover(tmp_path)
    assert found.agent_class().instructions == "x"
    assert found.agent_class.__name__ == "Plain"


def test_the_pools_defaults_fill_what_the_decorator_leaves_open(tmp_path: Path) -> None:
    """The pool's defaults fill in, one by one, what the decorator leaves open."""
    write(tmp_path, "a.py", "@agent_config(stt='deepgram/nova-3')")
    pool = AgentPool(default_stt="x/y", default_llm="openai/gpt-4.1-mini", default_greeting="Hi")
    (found,) = pool.discover(tmp_path)
    assert (found.stt, found.llm, found.tts) == ("deepgram/nova-3", "openai/gpt-4.1-mini", None)
    assert found.greeting == "Hi"


def test_files_with_a_leading_underscore_are_left_alone(tmp_path: Path) -> None:
    """A file whose name begins with an underscore is not executed."""
    for file in ("__init__.py", "_shared.py"):
        (tmp_path / file).write_text("raise RuntimeError('executed')")
    write(tmp_path, "dental.py")
    assert [it.name for it in AgentPool().discover(tmp_path)] == ["dental"]


def test_imported_agents_are_not_a_modules_own(tmp_path: Path) -> None:
    """A base class or a hand-off target from elsewhere is not an agent of this file."""
    (tmp_path / "only_imports.py").write_text("from tests.support.pool_agents import Dental")
    with pytest.raises(BrokenAgentModule, match=r"only_imports.py.*defines no subclass"):
        AgentPool().discover(tmp_path)


def test_of_several_agents_in_a_file_the_marked_one_is_meant(tmp_path: Path) -> None:
    """Of several agents in a file the decorated one is registered, without a decorator the first."""
    path = write(tmp_path, "support.py", name="Specialist")
    more = "\n@agent_config(name='desk')\nclass Desk(Agent): pass\nclass Night(Desk): pass\n"
    path.write_text(path.read_text() + more)
    (found,) = AgentPool().discover(tmp_path)
    assert (found.name, found.agent_class.__name__) == ("desk", "Desk")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def broken(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_a_module_that_cannot_be_imported_is_named_with_its_error(
    tmp_path: Path, text: str, error: str
) -> None:
    """A module that cannot be imported is an error with its cause, and no part of it stays loaded."""
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(RuntimeError, match=r"'broken.py' in .*cannot be imported") as failed:
        AgentPool().discover(tmp_path)
    assert error in str(failed.value)
    assert isinstance(failed.value, DiscoveryFailed)
    assert failed.value.__cause__ is not None
    assert module_name(path) not in sys.modules


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    """A missing directory is a FileNotFoundError."""
    with pytest.raises(FileNotFoundError, match="does not exist: name a folder"):
        AgentPool().discover(tmp_path / "nowhere")


def test_a_file_in_the_directorys_place_is_an_error(tmp_path: Path) -> None:
    """A file in place of the directory is a NotADirectoryError."""
    with pytest.raises(NotADirectoryError, match="is not a directory: name the folder"):
        AgentPool().discover(write(tmp_path, "dental.py"))


def test_two_files_with_one_name_are_an_error_that_names_the_other(tmp_path: Path) -> None:
    """Two files with one agent name are an error whose message names the first file."""
    write(tmp_path, "a.py", "@agent_config(name='dental')")
    write(tmp_path, "b.py", "@agent_config(name='dental')")
    with pytest.raises(ValueError, match=r"'dental' is registered already, from .*a\.py"):
        AgentPool().discover(tmp_path)


def test_a_discovered_agent_survives_a_pickle_after_its_module_is_unloaded(tmp_path: Path) -> None:
    """A job process loads class and factories again from the file of a discovered agent."""
    path = tmp_path / "dental.py"
    path.write_text(
        dedent("""
        from livekit.agents import Agent
        from voicecosts import agent_config
        from voicecosts.producer.demo.providers import ScriptedLLM

        def own_factory():
            return ScriptedLLM(model="made in the module")

        @agent_config(llm=own_factory, session_kwargs={"vad": None})
        class Dental(Agent):
            def __init__(self):
                super().__init__(instructions="from the file")
        """)
    )
    (found,) = AgentPool().discover(tmp_path)
    sent = pickle.dumps({"dental": found})
    del sys.modules[module_name(path)]
    arrived = pickle.loads(sent)["dental"]  # noqa: S301 - our own bytes
    assert arrived.agent_class is not found.agent_class
    assert arrived.agent_class().instructions == "from the file"
    assert arrived.session_arguments()["llm"].model == "made in the module"
    assert (arrived.name, arrived.session_kwargs) == ("dental", {"vad": None})


@pytest.mark.parametrize("name", ["42", "'a b'", "b'x'", "''"])
def test_a_malformed_name_in_the_decorator_is_told_with_its_file(tmp_path: Path, name: str) -> None:
    """A name that cannot be registered is an error whose message names the file and the rule."""
    write(tmp_path, "dental.py", f"@agent_config(name={name})")
    with pytest.raises(BrokenAgentModule, match=r"'dental.py' in .*1 to 64 ASCII letters"):
        AgentPool().discover(tmp_path)


def test_whatever_cannot_be_registered_is_told_with_its_file(tmp_path: Path) -> None:
    """A file whose own name is no agent's, and options that no session takes, name the file."""
    write(tmp_path, "dental clinic.py")
    with pytest.raises(InvalidRegistration, match=r"dental clinic\.py: an agent's name is"):
        AgentPool().discover(tmp_path)
    (tmp_path / "dental clinic.py").unlink()
    write(tmp_path, "desk.py", "@agent_config(session_kwargs={'vat': None})")
    with pytest.raises(InvalidRegistration, match=r"desk\.py: .*AgentSession takes no 'vat'"):
        AgentPool().discover(tmp_path)


FACTORY = """
def own_llm():
    return make_llm()

@agent_config(llm=own_llm)"""


@pytest.mark.parametrize("again", [False, True], ids=["unloaded", "loaded again"])
def test_a_discovered_agent_is_pickled_after_its_module_was_unloaded(
    tmp_path: Path, *, again: bool
) -> None:
    """What was discovered goes into job processes also when its module is no longer loaded here."""
    path = write(tmp_path, "dental.py", FACTORY)
    (found,) = AgentPool().discover(tmp_path)
    del sys.modules[module_name(path)]
    if again:
        AgentPool().discover(tmp_path)
    there = sys.modules.get(module_name(path))
    sent = pickle.dumps(found)
    assert sys.modules.get(module_name(path)) is there
    arrived = pickle.loads(sent)  # noqa: S301 - our own bytes
    assert arrived.agent_class().instructions == "x"
    assert arrived.session_arguments()["llm"].model == found.session_arguments()["llm"].model


def test_a_discovered_class_can_be_registered_again_under_another_name(tmp_path: Path) -> None:
    """A discovered class that is registered by hand is found in its file by a job process too."""
    path = write(tmp_path, "dental.py")
    pool = AgentPool()
    pool.discover(tmp_path)
    added = pool.add("night", pool.get("dental").agent_class)  # type: ignore[arg-type]  # it is a class
    sent = pickle.dumps(added)
    del sys.modules[module_name(path)]
    assert pickle.loads(sent).agent_class().instructions == "x"  # noqa: S301 - our own bytes


def test_files_of_one_name_in_two_directories_are_two_modules(tmp_path: Path) -> None:
    """Files of one name in two directories are two modules, named after their whole paths."""
    for folder, name in (("a", "First"), ("b", "Second")):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder, "agent.py", f"@agent_config(name='{folder}')", name)
    pool = AgentPool()
    pool.discover(tmp_path / "a")
    pool.discover(tmp_path / "b")
    names = [pool.get(it).agent_class.__name__ for it in pool.list_agents()]
    assert names == ["First", "Second"]


@pytest.mark.parametrize("file", [None, "_shared.py", "notes.txt"])
def test_a_folder_without_an_agent_is_empty_as_under_openrtc(
    tmp_path: Path, file: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker whose agents come later starts with what it adds itself; the log says what to do."""
    if file is not None:
        (tmp_path / file).write_text("")
    pool = AgentPool()
    assert pool.discover(tmp_path) == OpenRTCPool().discover(tmp_path) == []
    assert "holds no agent: put one into a .py file" in caplog.text
    with pytest.raises(NoAgents):
        pool.run()


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        ("@agent_config", r"lacks its parentheses at Found: write @agent_config\(\)$"),
        ("@agent_config('x')", r"\('x'\) lacks a keyword: write agent_config\(name='…'\)$"),
        ("@agent_config(None)", r"\(None\) lacks a keyword: write agent_config\(name='…'\)$"),
        ("@agent_config\ndef late(): ...\n", r"lacks its parentheses at late: write @agent_config"),
        ("@agent_config()\ndef late(): ...\n", r"marks late, which is no subclass of .*: put it"),
        ("@agent_config()\nclass Other: ...\n", r"marks Other, which is no subclass of .*: put it"),
    ],
)
def test_a_decorator_that_is_used_wrongly_says_how_to_write_it(
    tmp_path: Path, mark: str, said: str
) -> None:
    """A decorator without parentheses or keyword, or on no agent, names its place and the cure."""
    write(tmp_path, "dental.py", mark)
    with pytest.raises(BrokenAgentModule, match=rf"'dental.py' in .*agent_config.*{said}"):
        AgentPool().discover(tmp_path)


@pytest.mark.parametrize("given", [None, 7, ["agents"]])
def test_a_directory_that_is_no_path_says_what_to_pass(given: Any) -> None:
    """A value of another type is told like a directory that cannot be loaded."""
    said = f"the agents directory is {re.escape(repr(given))}: pass the path of a folder"
    with pytest.raises(DiscoveryFailed, match=said):
        AgentPool().discover(given)
    with pytest.raises(DiscoveryFailed, match="there is no home directory for '~nobody-here/it'"):
        AgentPool().discover("~nobody-here/it")
