"""What the pages name exists: files, headings, commands, and the examples of files."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from cli.main import main
from jobs import rows
from services.knowledge.exchange import JsonlReader, MarkdownReader

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKS = [
    (page, target)
    for page in PAGES
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    if "://" not in target
]


def code_of(page: Path, language: str = "") -> list[str]:
    """The blocks of code of a language."""
    blocks = re.findall(r"^ *```(\w*)\n(.*?)^ *```$", page.read_text(encoding="utf-8"), re.S | re.M)
    return [text for named, text in blocks if named == language]


def commands() -> list[tuple[str, str]]:
    """Every `nesycd` command line of the pages."""
    found = []
    for page in PAGES:
        lines = [line.strip() for block in code_of(page) for line in block.splitlines()]
        lines += re.findall(r"`(nesycd [a-z][^`]*)`", page.read_text(encoding="utf-8"))
        found += [(page.name, line) for line in lines if line.startswith("nesycd ")]
    return found


@pytest.mark.parametrize(("page", "target"), LINKS, ids=[f"{p.name}:{t}" for p, t in LINKS])
def test_a_link_leads_somewhere(page: Path, target: str) -> None:
    path, _, heading = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    assert file.exists()
    if heading:
        headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.M)
        assert heading in {re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize(("page", "line"), commands())
def test_a_command_exists_with_its_options(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    command: click.Command = main
    while isinstance(command, click.Group) and words:
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, f"{page}: there is no command {line!r}"
        command, words = found, words[1:]
    if words:
        command.make_context(
            command.name,
            [str(ROOT / "Makefile") if w.endswith((".yaml", "animals.md", "animals.jsonl")) else w for w in words],
        )


def test_every_target_that_the_pages_name_is_in_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    for page in PAGES:
        named = set(re.findall(r"`make ([a-z-]+)`", page.read_text(encoding="utf-8")))
        assert named <= targets, page.name


def test_the_settings_that_the_pages_name_exist() -> None:
    source = "\n".join(
        p.read_text(encoding="utf-8")
        for folder in ("services", "jobs", "cli", "tests")
        for p in (ROOT / folder).rglob("*.py")
    )
    for page in PAGES:
        for name in re.findall(r"NESYCD_[A-Z_]+", page.read_text(encoding="utf-8")):
            field = re.sub(r"^NESYCD_(TEACHER|KNOWLEDGE|EXTRACTION|STUDENT|RUNS|JOBS)_", "", name).lower()
            assert name in source or re.search(rf"^    {field}: ", source, re.M), f"{page.name}: {name}"


def test_the_entries_of_the_knowledge_page_can_be_imported() -> None:
    page = ROOT / "docs" / "knowledge-base.md"
    for reader, block, count in (
        (JsonlReader(), code_of(page, "jsonl")[0], 3),
        (MarkdownReader(), code_of(page, "markdown")[0], 2),
    ):
        items = [*reader.feed(block.encode()), *reader.finish()]
        assert [item.error for item in items] == [None] * count
        assert items[0].entry is not None and items[0].entry.text == "Puffins have 2 legs."


def test_the_row_of_the_data_page_is_a_row() -> None:
    assert len(rows.parse(code_of(ROOT / "docs" / "data.md", "json")[0].encode(), "data.md")) == 1


def test_the_readme_begins_with_what_it_is_and_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.index("make demo") < text.index("make test") < text.index("## ")
