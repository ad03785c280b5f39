"""The documentation names files, commands, names, messages and buttons that exist."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import CoralBayLib as cb
from CoralBayLib.cli.main import build_parser

ROOT = Path(__file__).parents[3]
PAGES = sorted(
    {*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "Testing").glob("*/README.md")}, key=lambda page: str(page)
)
# A changelog names what is gone.
PRESENT = [page for page in PAGES if page.name != "CHANGELOG.md"]

SLICERS_OWN = {
    "Additional module paths",
    "Advanced",
    "Application Settings",
    "Apply",
    "Auto-update",
    "Crop Volume",
    "Edit",
    "Extensions Manager",
    "Initialize",
    "Masking",
    "Modules",
    "PyTorch",
    "PyTorch Utils",
    "Reload and Test",
    "Sample Data",
    "Segment Editor",
    "Segmentation",
    "Undo",
    "Volume Information",
    "Volumes",
}


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a language, also those that are indented in a list."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", page.read_text(encoding="utf-8"), re.M | re.S)
    return [re.sub(rf"^{indent}", "", code, flags=re.M) for indent, code in found]


def prose(page: Path) -> str:
    """The text without code blocks."""
    return re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def anchor(title: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower().replace("`", "")).strip().replace(" ", "-")


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, title = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page_id(page)}: {target}"
        if title and file.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.M)
            assert title in {anchor(heading) for heading in headings}, f"{page_id(page)}: {target}"


def test_every_page_can_be_reached_from_the_readme():
    known, left = set(), [ROOT / "README.md"]
    while left:
        page = left.pop()
        if page in known or page.suffix != ".md" or not page.is_file():
            continue
        known.add(page)
        links = re.findall(r"\]\(([^)\s#]+)", prose(page))
        left += [(page.parent / link).resolve() for link in links if "://" not in link]
    assert {page_id(page) for page in PAGES} <= {page_id(page) for page in known}


def command_lines(page: Path) -> Iterator[list[str]]:
    """The words of each `coralbay` line of the shell blocks, without the command itself."""
    for code in blocks(page, "sh"):
        for line in code.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] == "coralbay":
                yield words[1:]


def subparser(parser: argparse.ArgumentParser, words: list[str]) -> argparse.ArgumentParser:
    """The parser of a command's words; KeyError when there is no such command."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) and words and not words[0].startswith("-"):
            return subparser(action.choices[words[0]], words[1:])
    return parser


def options(parser: argparse.ArgumentParser) -> set[str]:
    """The options of a command that its help shows."""
    shown = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    return {option for action in shown for option in action.option_strings}


def all_options(parser: argparse.ArgumentParser) -> set[str]:
    found = options(parser)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= set().union(*(all_options(each) for each in action.choices.values()))
    return found


@pytest.mark.parametrize("page", PRESENT, ids=page_id)
def test_command_lines_are_accepted(page):
    parser = build_parser()
    for words in command_lines(page):
        parser.parse_args(words)
        named = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert named <= options(subparser(parser, words)), " ".join(words)


@pytest.mark.parametrize("page", PRESENT, ids=page_id)
def test_commands_and_options_in_the_text_exist(page):
    parser, known = build_parser(), all_options(build_parser())
    text = prose(page)
    for command in re.findall(r"`coralbay ([a-z][^`]*)`", text):
        words = command.split()
        named = {word for word in words if word.startswith("--")}
        assert named <= options(subparser(parser, words)), command
    if page_id(page).startswith("Testing") or page.name == "index.md":
        return  # these name options of other programs
    assert set(re.findall(r"`(--[a-z][a-z-]*)", text)) - {"--vectors"} <= known


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_python_can_be_parsed_and_uses_names_that_exist(page):
    for code in blocks(page, "python"):
        tree = ast.parse(code)
        named = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "cb"
        }
        assert named <= set(cb.__all__)
    assert set(re.findall(r"`cb\.(\w+)", prose(page))) <= set(cb.__all__)


@pytest.mark.parametrize("page", PRESENT, ids=page_id)
def test_make_targets_exist(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    assert set(re.findall(r"`make ([a-z-]+)", page.read_text(encoding="utf-8"))) <= targets


@pytest.mark.parametrize("page", PRESENT, ids=page_id)
def test_files_named_in_the_developer_guide_exist(page):
    if page.name not in ("index.md", "CONTRIBUTING.md"):
        return
    roots = [ROOT, ROOT / "CoralBayLib", ROOT / "CoralBaySlicer" / "CoralBaySlicerCore", ROOT / "CoralBaySlicer"]
    roots += [ROOT / "CoralBayLib" / "encoders", ROOT / "CoralBaySlicer" / "CoralBaySlicerCore" / "panels"]
    roots += [ROOT / "CoralBaySlicer" / "Resources" / "UI"]
    for name in re.findall(r"`([\w/.-]+\.(?:py|ui|json|yml|sh))`", prose(page)):
        if not name.rpartition("/")[2].startswith(("NAME", "my")):
            assert any((root / name).is_file() for root in roots), name


@cache
def texts(folder: Path) -> tuple[str, ...]:
    """All strings of the Python files of a folder; what is filled in is a line feed."""
    found = []
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(part.value if isinstance(part, ast.Constant) else "\n" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(re.sub(r"\{\w*\}", "\n", node.value))
    return tuple(found)


def test_the_messages_of_the_troubleshooting_page_exist():
    messages = re.findall(r'^\| "(.+?)" \|', (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8"), re.M)
    assert len(messages) > 10
    known = texts(ROOT / "CoralBayLib") + texts(ROOT / "CoralBaySlicer")
    for message in messages:
        parts = [part.strip(" '") for part in message.split("...")]
        assert any(all(part in text for part in parts) for text in known), message


@cache
def interface() -> frozenset[str]:
    """What the panels show: the texts of their .ui files, the strings of their code, and the titles in encoder cards."""
    shown = set(texts(ROOT / "CoralBaySlicer"))
    for file in (ROOT / "CoralBaySlicer" / "Resources" / "UI").glob("*.ui"):
        shown |= {element.text or "" for element in ET.parse(file).iter("string")}
    plain = {re.sub(r"^\d\. |(\.\.\.|:)$", "", text) for text in shown}
    cards = cb.encoder_cards()
    from_cards = {card.title for card in cards} | {setting.title for card in cards for setting in card.settings}
    return frozenset(plain | from_cards)


@pytest.mark.parametrize("page", [page for page in PRESENT if page.parent.name == "docs" or page.parent == ROOT], ids=page_id)
def test_words_of_the_interface_are_those_that_the_module_shows(page):
    text = re.sub(r"\*\*.*?\*\*", "", prose(page), flags=re.S)
    for phrase in re.findall(r"(?<![\w*])\*([^*\s][^*]*?)\*(?!\w)", text):
        if len(phrase) > 80:
            continue  # the caption of a picture
        for part in re.sub(r"\s+", " ", phrase).split(" > "):
            word = re.sub(r"(\.\.\.|:)$", "", part)
            assert word in interface() or word in SLICERS_OWN, phrase
