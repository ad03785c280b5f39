"""What pip would install on the systems that Slicer is built for, by the metadata of the package index."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.tags import Tag, compatible_tags, cpython_tags, mac_platforms
from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = {"5.10": (3, 12), "5.12": (3, 12), "5.13": (3, 12)}
"""Python of Slicer: `Slicer_REQUIRED_PYTHON_VERSION` in CMakeLists.txt of the branches 5.10, 5.12 and main (5.13)."""
_GLIBC = 28
"""Minor version of the newest glibc 2 that a wheel may ask for; 2.28 is that of RHEL 8."""
_OLD_NAMES = {5: "manylinux1_x86_64", 12: "manylinux2010_x86_64", 17: "manylinux2014_x86_64"}
_JSON = "application/vnd.pypi.simple.v1+json"
_SLICER_HAS = ("numpy", "scipy", "simpleitk")


class IndexUnreachableError(Exception):
    """The package index does not answer, or not in JSON."""


def platforms() -> dict[str, list[str]]:
    """The platforms of wheels by the systems that Slicer is built for, the most specific first."""
    linux = []
    for minor in range(_GLIBC, 4, -1):
        linux += [f"manylinux_2_{minor}_x86_64", *([_OLD_NAMES[minor]] if minor in _OLD_NAMES else [])]
    return {
        "Windows": ["win_amd64"],
        "Linux": linux,
        "macOS arm64": list(mac_platforms((14, 0), "arm64")),
        "macOS x86_64": list(mac_platforms((14, 0), "x86_64")),
    }


def tags(python: tuple[int, int], names: Iterable[str]) -> set[Tag]:
    """The tags of wheels that pip accepts."""
    interpreter, names = f"cp{python[0]}{python[1]}", list(names)
    return {*cpython_tags(python, [interpreter], names), *compatible_tags(python, interpreter, names)}


def pins() -> list[Requirement]:
    """What the module installs into Slicer, with its extras."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras["library"], *extras["survival"], *extras["astra"]]
    return [each for each in map(Requirement, lines) if each.name.lower() not in _SLICER_HAS]


def index_url() -> str:
    """The address of the index that pip is configured for."""
    if url := os.environ.get("PIP_INDEX_URL"):
        return url
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "https://pypi.org/simple"


@functools.cache
def files_of(name: str) -> list[dict[str, Any]]:
    """What the index tells of the files of a project.

    Raises:
        IndexUnreachableError: the index does not answer, or not in JSON.
    """
    url = f"{index_url().rstrip('/')}/{name}/"
    if not url.startswith(("http://", "https://")):
        raise IndexUnreachableError(f"{url} is not an address of the web")
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": _JSON}), timeout=20) as answer:
            return json.load(answer)["files"]
    except (OSError, urllib.error.URLError, ValueError, KeyError) as error:
        raise IndexUnreachableError(f"{url}: {error}") from error


def chosen(requirement: Requirement, python: tuple[int, int], supported: set[Tag]) -> tuple[Version | None, bool]:
    """The release that pip chooses, and whether it has a wheel; (None, False) if no release fits.

    Pip takes the newest release of which it can use a file; a source distribution, which needs a compiler on the
    user's computer, is such a file too.
    """
    found: dict[Version, bool] = {}
    for file in files_of(requirement.name):
        if file.get("yanked") or not SpecifierSet(file.get("requires-python") or "").contains(
            ".".join(map(str, (*python, 10)))
        ):
            continue
        try:
            if file["filename"].endswith(".whl"):
                _name, version, _build, offered = parse_wheel_filename(file["filename"])
                is_wheel = True
                usable = not supported.isdisjoint(offered)
            else:
                _name, version = parse_sdist_filename(file["filename"])
                is_wheel, usable = False, True
        except (InvalidSdistFilename, InvalidWheelFilename, InvalidVersion):
            continue
        if usable and requirement.specifier.contains(version, prereleases=False):
            found[version] = found.get(version, False) or is_wheel
    newest = max(found, default=None)
    return newest, newest is not None and found[newest]
