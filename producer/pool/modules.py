"""Loading agent modules from files, under names that are the same in every process.

A discovered file is not part of a package, so its module gets a name made from its path. A job
process loads it again from the path, under the same name.
"""

from __future__ import annotations

import hashlib
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Final

_PREFIX: Final = "voicecosts_agents_"


def module_name(path: Path) -> str:
    """Return the name under which the module of a file is loaded, in this process or another."""
    digest = hashlib.blake2b(str(path.resolve()).encode(), digest_size=6).hexdigest()
    return f"{_PREFIX}{path.stem}_{digest}"


def is_discovered(module: str) -> bool:
    """Whether `module_name` made this name, so that the module can only be loaded from its path."""
    return module.startswith(_PREFIX)


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
    return module
