"""What is in the wheel."""

from __future__ import annotations

import subprocess
import zipfile

from tests.packaging.conftest import ROOT, Build

FOLDERS = ("producer", "consumer", "analytics", "voicecosts")


def sources() -> set[str]:
    """Return the names under which the package's files are imported: all but what git ignores."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *FOLDERS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    files = [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
    return {name if name.startswith("voicecosts/") else f"voicecosts/{name}" for name in files}


def test_the_wheel_holds_the_three_folders_as_voicecosts_and_nothing_else(build: Build) -> None:
    """Each file of the package is in the wheel once, under the name it is imported by: no tests, no links."""
    names = zipfile.ZipFile(build("--wheel")).namelist()
    ours = [name for name in names if ".dist-info/" not in name]
    assert sorted(ours) == sorted(sources())
