"""The CMake files of the extension, configured, built and installed with a stand-in for Slicer's own package."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(__file__).parent / "slicer_package"
MODULES = Path("lib/Slicer-5.13/qt-scripted-modules")
TOOLS = [tool for tool in ("cmake", "cc", "c++") if shutil.which(tool) is None]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(TOOLS), reason=f"not on this computer: {', '.join(TOOLS)}"),
]


def cmake(*arguments: object) -> str:
    """Run CMake; returns what it prints."""
    done = subprocess.run(["cmake", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """The folder of the build, that of the installation, and what was printed while it was configured."""
    folder = tmp_path_factory.mktemp("extension")
    build, prefix = folder / "build", folder / "installed"
    told = cmake("-S", ROOT, "-B", build, f"-DSlicer_DIR={PACKAGE}", "-DBUILD_TESTING=ON", f"-DCMAKE_INSTALL_PREFIX={prefix}")
    cmake("--build", build)
    cmake("--install", build, "--component", "RuntimeLibraries")
    return build, prefix, told


def wanted() -> set[str]:
    """The files that the module needs in Slicer, relative to the folder of scripted modules."""
    module, resources = ROOT / "CoralBaySlicer", ROOT / "Resources"
    own = [each for each in module.rglob("*") if each.name != "CMakeLists.txt"]
    library = (ROOT / "CoralBayLib").rglob("*.py")
    brought = [each for kind in ("Encoders", "Weights", "Examples") for each in (resources / kind).iterdir()]
    found = {each: each.relative_to(module) for each in own} | {each: each.relative_to(ROOT) for each in library}
    # The resources of the library lie inside of it there.
    found |= {each: "CoralBayLib" / each.relative_to(ROOT) for each in brought}
    return {target.as_posix() for each, target in found.items() if each.is_file() and "__pycache__" not in target.parts}


def files_in(folder: Path) -> set[str]:
    return {each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file()}


def test_every_file_of_the_module_is_built_and_installed(built: tuple[Path, Path, str]) -> None:
    build, prefix, _told = built
    expected = wanted()
    assert {"CoralBaySlicer.py", "CoralBayLib/__init__.py", "Resources/UI/SegmentPanel.ui"} <= expected
    assert {"SegmentEditorCoralBayLib/SegmentEditorEffect.py", "Resources/requirements.txt"} <= expected
    assert files_in(build / MODULES) == expected
    assert files_in(prefix / "share/Slicer" / MODULES) == expected


def test_cmake_has_nothing_to_complain_about(built: tuple[Path, Path, str]) -> None:
    assert "CMake Warning" not in built[2] and "Deprecation" not in built[2]


def test_the_generic_tests_and_the_self_test_are_known_to_ctest(built: tuple[Path, Path, str]) -> None:
    lines = (built[0] / "tests.txt").read_text(encoding="utf-8").splitlines()
    assert lines == ["generic CoralBaySlicer", "unittest CoralBaySlicer.py"]


def test_what_the_index_shows_is_complete(built: tuple[Path, Path, str]) -> None:
    text = (built[0] / "extension.txt").read_text(encoding="utf-8")
    facts = dict(line.split(" ", 1) for line in text.splitlines())
    assert facts["project"] == "CoralBay"
    for name in ("HOMEPAGE", "CATEGORY", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS", "KEYWORDS", "TIER"):
        assert facts[f"EXTENSION_{name}"].strip(), name
    assert facts["EXTENSION_DEPENDS"] == "PyTorch"
    # A semicolon would end the text in CMake.
    assert facts["EXTENSION_DESCRIPTION"].endswith("not a medical device.")
    # The pictures are raw files of the repository.
    for url in [facts["EXTENSION_ICONURL"], *facts["EXTENSION_SCREENSHOTURLS"].split()]:
        path = re.fullmatch(r"https://raw\.githubusercontent\.com/coralbay/SlicerCoralBay/main/(.+\.png)", url)
        assert path is not None and (ROOT / path[1]).is_file(), url


def test_the_installed_library_finds_its_resources(built: tuple[Path, Path, str]) -> None:
    """Imported from the installed folder alone, as in Slicer."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import CoralBayLib as cb\n"
        "from CoralBayLib.encoders.cards import shipped_card\n"
        "assert cb.__file__.startswith(sys.argv[1]), cb.__file__\n"
        "print(shipped_card('coralbay').title, '|', len(cb.encoder_cards()))"
    )
    folder = built[1] / "share/Slicer" / MODULES
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, str(folder)], capture_output=True, text=True, check=False, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    title, count = done.stdout.split("|")
    assert title.strip() == "CoralBay" and int(count) >= 6
