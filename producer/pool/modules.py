"""Loading agent modules from files, under names that are the same in every process.

A discovered file is not part of a package, so its module gets a name made from its path. A job
process loads it again from the path, under the same name.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Final

_PREFIX: Final = "voicecosts_agents_"

_executed: Final[dict[str, list[ModuleType]]] = {}
"""Every module that was loaded here, by its name: a class stays in use when its module is unloaded."""


def module_name(path: Path) -> str:
    """Return the name under which the module of a file is loaded, in this process or another."""
    digest = hashlib.blake2b(str(path.resolve()).encode(), digest_size=6).hexdigest()
    return f"{_PREFIX}{path.stem}_{digest}"


def is_discovered(module: str) -> bool:
    """Whether `module_name` made this name, so that the module can only be loaded from its path."""
    return module.startswith(_PREFIX)


def file_of(module: str) -> Path | None:
    """Return the file that a discovered module was loaded from, `None` for any other module."""
    loaded_here = _executed.get(module) if is_discovered(module) else None
    return Path(str(loaded_here[-1].__file__)) if loaded_here else None


def load_module(path: Path, name: str) -> ModuleType:
    """Return the module of a file, executed once per process.

    A module that fails leaves nothing behind, so that the next attempt starts anew.
    """
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    _executed.setdefault(name, []).append(module)
    return module


@contextlib.contextmanager
def loaded(name: str, kind: object) -> Iterator[None]:
    """Have the module of a discovered class in its place during the body: pickle looks it up there.

    Somebody may have unloaded it, or loaded the file again since.
    """
    homes = _executed.get(name, ())
    home = next((it for it in homes if any(own is kind for own in vars(it).values())), None)
    there = sys.modules.get(name)
    if home is None or home is there:
        yield
        return
    sys.modules[name] = home
    try:
        yield
    finally:
        if there is None:
            del sys.modules[name]
        else:
            sys.modules[name] = there
