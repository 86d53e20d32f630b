"""`nesycd kb` against a real knowledge service, as a domain expert uses it."""

from __future__ import annotations

import json
import os
import pty
import random
import re
import select
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner, Result
from nesycd.knowledge.v1 import CreateEntryRequest, Entry, KnowledgeServiceStub, RecordFeedbackRequest

from cli.main import main
from tests.command import until
from tests.processes import Process, service

NESYCD = str(Path(sys.executable).with_name("nesycd"))


@pytest.fixture(scope="module", params=["embedded", "weaviate"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("kb")
    settings = {"data_dir": str(folder / "data")}
    if request.param == "weaviate":
        settings = request.getfixturevalue("weaviate_server").settings()
    process = service("knowledge", folder, embedder="none", **settings)
    process.start()
    yield process
    process.kill()


class Base:
    """A knowledge base of its own, and the command on it."""

    def __init__(self, process: Process, folder: Path) -> None:
        self.id = f"t{uuid.uuid4().hex[:12]}"
        self.folder = folder
        self.process = process
        self.env = {
            "NESYCD_HOME": str(folder / "home"),
            "NESYCD_KNOWLEDGE_ADDRESS": process.address,
            "NESYCD_KB": self.id,
            "COLUMNS": "120",
        }
        self("create", self.id, "--title", "A test")

    def __call__(self, *arguments: str, status: int = 0, stdin: str | None = None, **env: str) -> Result:
        """Runs `nesycd kb ...`; its exit status must be the given one."""
        result = CliRunner().invoke(main, ["kb", *arguments], input=stdin, env={**self.env, **env})
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert result.exit_code == status, f"{arguments}: {result.exit_code}\n{result.output}"
        return result

    def json(self, *arguments: str, status: int = 0) -> Any:
        """What a command prints with --json: nothing else may be on its standard output."""
        return json.loads(self(*arguments, "--json", status=status).stdout)

    def add(self, text: str, *options: str) -> str:
        """Adds an entry, and returns its name."""
        return self.json("add", text, *options)["name"]

    def draft(self, text: str) -> str:
        """Adds an entry that must wait, and returns its name."""
        made = self.json("add", text)
        assert made["status"] == "ENTRY_STATUS_DRAFT", made
        return made["name"]

    def entry(self, name: str) -> dict[str, Any]:
        return self.json("show", name)

    def stub(self) -> KnowledgeServiceStub:
        return KnowledgeServiceStub(grpc.insecure_channel(self.process.address))

    def typing(self, arguments: Sequence[str], lines: Sequence[str], **env: str) -> tuple[str, int]:
        """Runs a command on a terminal of its own where somebody answers each question with a line."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.environ.update(self.env, TERM="xterm", **env)
            os.execv(NESYCD, [NESYCD, "kb", *arguments])
        said = b""
        for line in lines:
            said += _until_asked(terminal)
            os.write(terminal, line.encode() + b"\n")
        while piece := _read(terminal, 60):
            said += piece
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.decode()), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _read(terminal: int, patience: float) -> bytes:
    if not select.select([terminal], [], [], patience)[0]:
        return b""
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other end is closed
        return b""


def _until_asked(terminal: int) -> bytes:
    """What is said until a question is asked and nothing follows."""
    said = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        piece = _read(terminal, 0.3)
        said += piece
        if not piece and said.rstrip().endswith((b"?", b":")):
            return said
    raise AssertionError(f"no question was asked:\n{said.decode()}")


@pytest.fixture
def base(server: Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Base:
    monkeypatch.chdir(tmp_path)
    return Base(server, tmp_path)


def editor(folder: Path, *commands: str) -> str:
    """A program that edits the file that it is given by shell commands ($1 is the file)."""
    path = folder / f"editor-{uuid.uuid4().hex[:8]}"
    path.write_text("#!/bin/sh\nset -e\n" + "\n".join(commands) + "\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


# --- finding


def test_a_search_is_told_what_to_weigh_and_what_to_leave_out(base: Base) -> None:
    good, bad = base.add("Crabs walk sideways at night."), base.add("Crabs walk sideways by day in groups of friends.")
    for _ in range(3):
        base("feedback", bad, "--helpful")
        base("feedback", good, "--harmful")

    def found(*options: str) -> list[str]:
        return [r["entry"]["name"] for r in base.json("search", "crabs walk", *options).get("results", [])]

    assert found() == [good, bad]
    assert found("--feedback-weight", "1") == [bad, good]
    assert found("--exclude", good[-36:][:8]) == [bad]
    assert found("--minimum-score", "1000") == []
    assert found("--filter", "counters.helpful > 2") == [bad]
    assert "bm25" in base("search", "crabs", "--explain").stdout.lower()
    assert "NO_EMBEDDER" in base("search", "crabs", "--mode", "vector", "--fusion", "rank", status=1).output


def test_the_beginning_of_an_id_is_enough_everywhere(base: Base) -> None:
    stub = base.stub()
    for tail in ("0001", "0002"):
        request = CreateEntryRequest(
            parent=f"knowledgeBases/{base.id}",
            entry=Entry(text=f"Text number {tail}."),
            entry_id=f"12345678-aaaa-4aaa-8aaa-00000000{tail}",
        )
        stub.CreateEntry(request)
    name = base.add("Krill have 10 thoracic legs.")
    number = name[-36:]
    for given in (number, number[:8], number[:13].upper(), name, name[:-20]):
        assert base.json("show", given)["name"] == name
    said = base("show", "12345678", status=1).output
    assert "2 entries begin with 12345678" in said and "00000001" in said and "00000002" in said
    assert base.json("show", "12345678-aaaa-4aaa-8aaa-000000000002")["text"] == "Text number 0002."
    assert "begins with 99999999" in base("show", "99999999", status=1).output
    assert "at least 8" in base("show", number[:7], status=1).output


@pytest.mark.parametrize("columns", ["40", "79", "80", "200"])
def test_lists_fit_the_terminal_and_lose_nothing(base: Base, columns: str) -> None:
    name = base.add("A sentence of some words that is longer than a narrow terminal is wide, ending in octopus.")
    for command in (("entries",), ("audit",), ("history", name), ("stats",), ("show", name)):
        lines = base(*command, COLUMNS=columns).stdout.splitlines()
        assert max(len(line.rstrip()) for line in lines) <= max(int(columns), 80), command  # an entry's name is long
        if command[0] != "stats":
            assert "octopus" in " ".join(lines)


def test_a_list_is_cut_where_asked_and_says_so(base: Base) -> None:
    for animal in ("crow", "gull", "tern"):
        base.add(f"The {animal} is a kind of bird.", "--tag", animal)
    assert len(base.json("entries")) == 3
    assert len(base.json("entries", "--limit", "2")) == 2
    assert "--limit 0" in base("entries", "--limit", "2").output
    assert "gull" in base("entries", "--filter", "tags:gull").stdout
    assert "INVALID_FILTER" in base("entries", "--filter", "tags ~ gull", status=1).output


# --- correcting


def test_an_edit_changes_what_it_names_and_shows_it(base: Base) -> None:
    name = base.add("Crabs have 8 legs.", "--tag", "sea", "--tag", "legs")
    said = base("edit", name, "--text", "Crabs have 10 legs.", "--untag", "sea", "--tag", "arthropods", "--title", "Crabs",
                "--kind", "summary", "--citation", "a book", "--author", "bob", "--reason", "counted").output  # fmt: skip
    assert "Crabs have [-8-]{+10+} legs." in said and "tags: [-sea-], {+arthropods+}" in said
    now = base.entry(name)
    assert (now["text"], now["title"], now["kind"]) == ("Crabs have 10 legs.", "Crabs", "ENTRY_KIND_SUMMARY")
    assert now["tags"] == ["legs", "arthropods"] and now["sources"][-1] == {"author": "bob", "citation": "a book"}
    assert "It said that already." in base("edit", name, "--title", "Crabs").output
    assert "no tag sea" in base("edit", name, "--untag", "sea", status=1).output
    assert base.json("edit", name, "--title", "")["revision"] == "3" and "title" not in base.entry(name)


def test_another_entry_takes_the_place_of_one(base: Base) -> None:
    old, new = base.add("Whales are fish of the sea."), base.add("Dolphins breathe air with lungs.")
    base("retire", old[-36:][:8], "--superseded-by", new[-36:][:8], "--reason", "wrong")
    now = base.entry(old)
    assert (now["status"], now["superseded_by"]) == ("ENTRY_STATUS_SUPERSEDED", new)
    base("edit", old, "--status", "active")
    assert "superseded_by" not in base.entry(old)
    base("retire", old)
    assert base.entry(old)["status"] == "ENTRY_STATUS_RETIRED"


def test_the_editor_gives_the_text_and_nothing_is_written_where_it_changes_nothing(base: Base) -> None:
    base("add", "--title", "Typed", EDITOR=editor(base.folder, 'echo "Otters hold hands." > "$1"'))
    name = base.json("entries")[0]["name"]
    assert base.entry(name)["text"] == "Otters hold hands."
    base("edit", name, EDITOR=editor(base.folder, 'echo "Otters float." > "$1"'))
    assert base.entry(name)["text"] == "Otters float."
    assert "nothing was changed" in base("edit", name, status=1, EDITOR=editor(base.folder, 'touch "$1"')).output
    assert base.entry(name)["revision"] == "2"


def test_a_text_comes_from_a_file_or_from_standard_input(base: Base) -> None:
    (base.folder / "text").write_bytes("\ufeffÄlche sind dünn.\n".encode())
    name = base.json("add", "--text-file", "text")["name"]
    assert base.entry(name)["text"] == "Älche sind dünn."
    base("edit", name, "--text-file", "-", stdin="Älche sind lang.")
    assert base.entry(name)["text"] == "Älche sind lang."
    (base.folder / "text").write_bytes(b"\xff\xfe")
    assert "not UTF-8" in base("edit", name, "--text-file", "text", status=1).output
    assert "No such file" in base("edit", name, "--text-file", "none", status=1).output


def test_of_two_edits_of_one_revision_the_second_sees_both_versions_and_keeps_its_text(base: Base) -> None:
    name = base.add("Crabs have 8 legs and 2 claws.")
    meanwhile = f'{NESYCD} kb edit {name} --text "Crabs have 10 legs and 2 claws." --author bob --reason counted'
    typing = editor(base.folder, 'sed -i "s/2 claws/two big claws/" "$1"', meanwhile)
    env = {**os.environ, **base.env, "EDITOR": typing}
    done = subprocess.run(
        [NESYCD, "kb", "edit", name], capture_output=True, text=True, env=env, cwd=base.folder, timeout=200
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    said = " ".join(done.stderr.split())
    assert "revision 2" in said and "bob: counted" in said
    assert "Crabs have [-8-]{+10+} legs and 2 claws." in said, "what the other person changed"
    assert "Crabs have 8 legs and [-2-]{+two big+} claws." in said, "what this one wanted"
    (kept,) = base.folder.glob("kb-edit-*.txt")
    assert kept.read_text() == "Crabs have 8 legs and two big claws.\n" and str(kept) in said
    assert base.entry(name)["text"] == "Crabs have 10 legs and 2 claws.", "nothing was written"
    kept.write_text("Crabs have 10 legs and two big claws.\n")
    base("edit", name, "--text-file", str(kept))
    assert base.entry(name)["text"] == "Crabs have 10 legs and two big claws."


def test_a_script_that_edits_what_it_read_before_is_told_of_both_versions(base: Base) -> None:
    name = base.add("Crabs have 8 legs.")
    etag = base.entry(name)["etag"]
    base("edit", name, "--title", "Crabs", "--etag", etag)
    result = base("edit", name, "--title", "Legs", "--etag", etag, "--json", status=1)
    conflict = json.loads(result.stdout)
    assert (conflict["read"]["entry"]["revision"], conflict["current"]["entry"]["revision"]) == ("1", "2")
    assert base.entry(name)["title"] == "Crabs"


def test_what_was_typed_is_kept_where_the_service_refuses_it_or_is_away(base: Base, tmp_path: Path) -> None:
    name = base.add("Crabs have 8 legs.")
    long = editor(base.folder, 'head -c 9000 /dev/zero | tr "\\0" x > "$1"')
    assert "8192" in base("edit", name, status=1, EDITOR=long).output
    base("add", status=1, EDITOR=long)
    assert [path.stat().st_size for path in sorted(base.folder.glob("kb-*.txt"))] == [9001, 9001]
    base("edit", name, status=1, EDITOR=long)
    assert len(list(base.folder.glob("kb-*.txt"))) == 3, "an older one is not written over"

    for path in base.folder.glob("kb-*.txt"):
        path.unlink()
    process = service("knowledge", tmp_path, data_dir=str(tmp_path / "data"), embedder="none")
    try:
        process.start()
        other = Base(process, tmp_path)
        name = other.add("Crabs have 8 legs.")
        killing = editor(other.folder, 'echo "Crabs have 10 legs." > "$1"', f"kill -9 {process.popen.pid}")  # type: ignore[union-attr]
        said = other("edit", name, status=1, EDITOR=killing).output
        assert "does not answer" in said
        assert (tmp_path / f"kb-edit-{name[-36:][:8]}.txt").read_text() == "Crabs have 10 legs.\n"
    finally:
        process.kill()


# --- reviewing


def test_what_contradicts_waits_and_the_writer_is_told_what_to_do(base: Base) -> None:
    name = base.add("Crabs have 10 legs.")
    result = base("add", "Crabs have 8 legs.")
    assert "waits for a person" in result.output and "Crabs have 10 legs." in result.output
    draft = base.json("entries", "--filter", "status = DRAFT")[0]
    short = draft["name"][-36:][:8]
    assert draft["conflicting_entries"] == [name] and draft["review_cause"] == "REVIEW_CAUSE_CONTRADICTION"
    for verb in ("approve", "reject", "merge", "replace"):
        assert f"nesycd kb {verb} {short}" in result.output
    assert "nesycd kb approve" in base("show", short).output
    assert base.json("search", "crabs")["results"][0]["entry"]["name"] == name, "a draft is not found"
    assert base.json("add", "Crabs have 12 legs.", "--reviewed")["status"] == "ENTRY_STATUS_ACTIVE"


def test_an_edit_that_contradicts_waits_too(base: Base) -> None:
    base.add("Crabs have 10 legs.")
    name = base.add("Krill have 6 eyes.")
    assert "nesycd kb replace" in base("edit", name, "--text", "Crabs have 8 legs.").output
    assert base.entry(name)["status"] == "ENTRY_STATUS_DRAFT"
    assert base.json("edit", name, "--text", "Crabs have 9 legs.", "--status", "active", "--reviewed")["status"] == (
        "ENTRY_STATUS_ACTIVE"
    )


def test_the_queue_shows_each_draft_with_what_it_meets(base: Base) -> None:
    assert "Nothing waits." in base("review").output and base.json("review") == []
    base.add("Crabs have 10 legs.")
    base.draft("Crabs have 8 legs.")
    listed = base.json("review")
    assert len(listed) == 1 and listed[0]["conflicts"][0]["text"] == "Crabs have 10 legs."
    wide = base("review").stdout
    assert any("Crabs have 8 legs." in line and "Crabs have 10 legs." in line for line in wide.splitlines())
    narrow = base("review", COLUMNS="50").stdout
    assert "Crabs have 8 legs." in narrow and "Crabs have 10 legs." in narrow
    assert max(map(len, narrow.splitlines())) <= 50


def test_each_decision_does_what_it_says(base: Base) -> None:
    def status(name: str) -> str:
        return base.entry(name)["status"].removeprefix("ENTRY_STATUS_")

    spiders, crabs = base.add("Spiders have 8 legs."), base.add("Crabs have 10 legs.")
    wrong = base.draft("Spiders have 6 legs.")
    base("reject", wrong, "--reason", "a typing error", "--author", "ada")
    assert (status(wrong), status(spiders)) == ("RETIRED", "ACTIVE")
    assert "ada: a typing error" in base("history", wrong).stdout

    both = base.draft("Spiders have 7 legs.")
    base("approve", both[-36:][:8])
    assert (status(both), status(spiders)) == ("ACTIVE", "ACTIVE")

    right = base.draft("Crabs have 8 legs.")
    assert "superseded" in base("replace", right).output
    assert (status(right), status(crabs)) == ("ACTIVE", "SUPERSEDED")
    assert base.entry(crabs)["superseded_by"] == right

    same = base.json("add", "Crabs have 11 legs.", "--citation", "another book")["name"]
    base("merge", same, right)
    assert (status(same), status(right)) == ("SUPERSEDED", "ACTIVE")
    assert any(source.get("citation") == "another book" for source in base.entry(right)["sources"])

    result = base("approve", same, status=1)
    assert "1 of 1 could not be decided" in result.output
    base("rollback", right, "1")
    assert status(right) == "DRAFT", "a decision can be undone"


def test_a_person_goes_through_the_queue_on_a_terminal(base: Base) -> None:
    animals = ("Crabs", "Spiders", "Krill", "Beetles", "Ants")
    kept = {animal: base.add(f"{animal} have 10 legs.") for animal in animals}
    for animal in animals:
        base.draft(f"{animal} have 8 legs.")
    queue = [review["entry"] for review in base.json("review")]
    typing = editor(base.folder, 'sed -i "s/8 legs/9 legs/" "$1"')
    said, status = base.typing(
        ("review", "--author", "ada"), ("?", "a", "looked it up", "l", "m", "e", "q"), EDITOR=typing
    )
    assert status == 0 and "Traceback" not in said
    assert "skip it for now" in said, "a key that is none explains them"
    assert said.count("Why?") == 1, "the reason is asked for once"
    assert "Decided: 4" in said and "Still waiting: 1" in said
    now = [base.entry(entry["name"]) for entry in queue]
    found = [entry["status"].removeprefix("ENTRY_STATUS_") for entry in now]
    assert found == ["ACTIVE", "ACTIVE", "SUPERSEDED", "ACTIVE", "DRAFT"]
    animal = [entry["text"].split()[0] for entry in queue]
    assert base.entry(kept[animal[0]])["status"] == "ENTRY_STATUS_ACTIVE"
    assert base.entry(kept[animal[1]])["status"] == "ENTRY_STATUS_SUPERSEDED"
    assert now[2]["superseded_by"] == kept[animal[2]]
    assert now[3]["text"] == f"{animal[3]} have 9 legs."
    assert all("ada: looked it up" in base("history", entry["name"]).stdout for entry in now[:4])


def test_a_draft_that_somebody_else_decided_meanwhile_is_told(base: Base) -> None:
    base.add("Crabs have 10 legs.")
    draft = base.draft("Crabs have 8 legs.")
    meanwhile = editor(base.folder, 'echo "Crabs have 9 legs." > "$1"', f"{NESYCD} kb reject {draft}")
    said, status = base.typing(("review", "--reason", "x"), ("e",), EDITOR=meanwhile)
    assert status == 0 and "Traceback" not in said
    assert "It is retired by now." in said and base.entry(draft)["status"] == "ENTRY_STATUS_RETIRED"
    assert list(base.folder.glob("kb-edit-*.txt")), "what was typed is kept"


# --- what was


def test_a_diff_is_of_the_last_change_unless_revisions_are_named(base: Base) -> None:
    name = base.add("Crabs have 8 legs.")
    assert "never changed" in base("diff", name, status=1).output
    base("edit", name, "--text", "Crabs have 9 legs.")
    base("edit", name, "--text", "Crabs have 10 legs.", "--author", "bob", "--reason", "counted")
    assert "[-9-]{+10+}" in base("diff", name).stdout
    assert "[-8-]{+10+}" in base("diff", name, "1").stdout
    assert "[-8-]{+9+}" in base("diff", name, "1", "2").stdout
    assert "They say the same." in base("diff", name, "2", "2").output
    whole = base.json("diff", name, "1", "3")
    assert whole["changes"] == [{"field": "text", "before": ["Crabs have 8 legs."], "after": ["Crabs have 10 legs."]}]
    assert whole["to"]["author"] == "bob"
    assert base("diff", name, "1", "9", status=1).output.startswith("Error: ")
    assert [r["entry"]["revision"] for r in base.json("history", name)] == ["3", "2", "1"]
    shown = base("history", name, "--limit", "1").output
    assert "bob: counted" in shown and "[-9-]{+10+}" in shown and "--limit 0" in shown
    assert "Crabs have 8 legs." in base("show", name, "--revisions").stdout
    said = base("rollback", name, "1", "--reason", "right at first").output
    assert "[-10-]{+8+}" in said and base.entry(name)["revision"] == "4"


def test_the_audit_is_a_table_in_order_of_time_and_a_file_of_revisions(base: Base) -> None:
    first, second = base.add("Crabs have 8 legs."), base.add("Owls hunt at night.")
    base("edit", first, "--title", "Crabs", "--author", "bob", "--reason", "a title")
    base("edit", second, "--title", "Owls")
    lines = [line for line in base("audit").stdout.splitlines() if line[:4].isdigit()]
    assert [line[:19] for line in lines] == sorted(line[:19] for line in lines) and len(lines) == 4
    assert "bob" in lines[2] and "a title" in lines[2]
    base("audit", "-o", "audit.jsonl")
    rows = [json.loads(line) for line in (base.folder / "audit.jsonl").read_text().splitlines()]
    assert {(row["entry"]["name"], row["entry"]["revision"]) for row in rows} == {
        (first, "1"), (first, "2"), (second, "1"), (second, "2"),
    }  # fmt: skip
    assert [json.loads(line) for line in base("audit", "--json").stdout.splitlines()] == rows
    only = [json.loads(line) for line in base("audit", "--entry", first, "--json").stdout.splitlines()]
    assert [(row["entry"]["name"], row["entry"]["revision"]) for row in only] == [(first, "1"), (first, "2")]
    assert len(base("audit", "--since", "1h", "--json").stdout.splitlines()) == 4
    assert "Nothing was changed." in base("audit", "--since", "2999-01-01").output
    assert base("audit", "--since", "2999-01-01", "--entry", first, "--json").stdout == ""


def test_a_watch_prints_changes_and_goes_on_after_a_restart_of_the_service(tmp_path: Path) -> None:
    process = service("knowledge", tmp_path, data_dir=str(tmp_path / "data"), embedder="none")
    process.start()
    base = Base(process, tmp_path)
    name = base.add("Crabs have 8 legs.")
    log = tmp_path / "watch.log"
    env = {**os.environ, **base.env}
    with log.open("wb") as output:
        watching = subprocess.Popen(
            [NESYCD, "kb", "watch"], stdout=output, stderr=output, env=env | {"PYTHONUNBUFFERED": "1"}
        )
    try:
        until(lambda: "Watching" in log.read_text())

        def seen(number: int) -> bool:
            base("edit", name, "--title", f"Title {number} {time.monotonic_ns()}", "--author", "bob", "--reason", "why")
            return f"Title {number} " in log.read_text()

        until(lambda: seen(1))
        said = log.read_text()
        assert name[-36:][:8] in said and "bob: why" in said
        process.kill()
        until(lambda: "is waited for" in log.read_text())
        process.start()
        base("edit", name, "--text", "Crabs have 10 legs.")
        until(lambda: "[-8-]{+10+}" in log.read_text())
        watching.send_signal(2)
        assert watching.wait(60) == 0 and "Traceback" not in log.read_text()
    finally:
        watching.kill()
        watching.wait()
        process.kill()


# --- feedback, statistics, bases


def test_feedback_is_counted_and_shown_among_the_statistics(base: Base) -> None:
    name = base.add("Crabs have 10 legs.", "--tag", "legs")
    base.draft("Crabs have 8 legs.")
    assert base.json("feedback", name, "--helpful")["counters"]["helpful"] == "1"
    assert "harmed 1" in base("feedback", name, "--harmful").output
    base("feedback", name, status=2)
    base("feedback", name, "--helpful", "--harmful", status=2)
    found = base.json("stats")
    assert found["by_status"] == {"ENTRY_STATUS_ACTIVE": "1", "ENTRY_STATUS_DRAFT": "1"}
    assert found["by_kind"] == {"ENTRY_KIND_FACT": "2"} and found["tags"] == [{"tag": "legs", "count": "1"}]
    assert found["most_helpful"][0]["name"] == name and found["most_harmful"][0]["name"] == name
    said = base("stats").output
    assert "legs 1" in said and "Crabs have 10 legs." in said and "nesycd kb review" in said


def test_a_base_is_renamed_and_removed_only_when_that_is_meant(base: Base) -> None:
    assert base.json("rename", base.id, "--title", "New", "--description", "About crabs")["title"] == "New"
    assert next(b for b in base.json("list") if b["name"].endswith(base.id))["description"] == "About crabs"
    base("rename", base.id, status=2)
    base.add("Crabs have 10 legs.")
    assert "--force" in base("delete", base.id, status=1).output
    said, status = base.typing(("delete", base.id), ("something else",))
    assert status == 1 and "nothing was removed" in said
    said, status = base.typing(("delete", base.id), (base.id,))
    assert status == 0 and "is removed" in said
    assert "NOT_FOUND" in base("entries", status=1).output
    assert "NOT_FOUND" in base("delete", base.id, "--force", status=1).output


# --- files


def test_a_dry_run_says_what_would_happen_to_each_item_and_changes_nothing(base: Base) -> None:
    name = base.add("Crabs have 10 legs.", "--tag", "legs")
    owl = base.add("Owls hunt at night.")
    (base.folder / "a.md").write_text(
        f"# Notes\n\n## Owls\n\n- id: {owl[-36:]}\n- kind: FACT\n\nOwls hunt by day.\n\n"
        "## Puffins\n\nPuffins nest in burrows.\n\n## Crabs\n\nCrabs have 8 legs.\n\n"
        "## Again\n\n- source: another book\n\ncrabs have 10 legs\n\n## Wrong\n\n- kind: NONSENSE\n\nA text.\n"
    )
    before = base.json("entries")
    said = base("import", "a.md", "--dry-run", status=1).output
    assert "a.md:3: changed" in said and "Owls hunt [-at night-]{+by day+}." in said
    assert "a.md:10: new" in said and "Puffins nest in burrows." in said
    assert "a.md:14: waits for a person" in said and name[-36:][:8] in said
    assert "a.md:18: another source" in said
    assert "a.md:24: kind is 'NONSENSE'" in said and "Refused: 1." in said
    assert base.json("entries") == before
    done = base.json("import", "a.md", status=1)
    assert {key: done[key] for key in ("created", "updated", "merged", "for_review")} == {
        "created": "2", "updated": "1", "merged": "1", "for_review": "1",
    }  # fmt: skip
    assert "changes" not in done
    assert "4 unchanged" in base("import", "a.md", status=1).output


def test_a_file_that_people_have_looked_at_comes_in_whole_or_not_at_all(base: Base) -> None:
    base.add("Crabs have 10 legs.")
    (base.folder / "a.jsonl").write_text('{"text": "Crabs have 8 legs."}\n{"text": ""}\n')
    assert "a.jsonl:2" in base("import", "a.jsonl", "--atomic", "--reviewed", status=1).output
    assert len(base.json("entries")) == 1
    (base.folder / "a.jsonl").write_text('{"text": "Crabs have 8 legs."}\n')
    listed = base("import", "a.jsonl", "--atomic", "--reviewed", "--changes").output
    assert "a.jsonl:1: new" in listed and "1 created" in listed
    assert base.json("review") == []
    assert "1 unchanged" in base("import", "a.jsonl").output
    assert "1 created" in base("import", "-", "--format", "markdown", stdin="## T\n\nSeals bark.\n").output


def test_an_export_is_there_whole_or_as_it_was(base: Base) -> None:
    base.add("Crabs have 10 legs.")
    target = base.folder / "real.md"
    target.write_text("old")
    (base.folder / "a.md").symlink_to(target)
    base("export", "a.md")
    assert "Crabs have 10 legs." in target.read_text() and (base.folder / "a.md").is_symlink()
    base("export", "a.md", "--filter", "nonsense", status=1)
    assert "Crabs have 10 legs." in target.read_text() and not list(base.folder.glob("*.part"))
    assert json.loads(base("export", "-").stdout)["text"] == "Crabs have 10 legs."
    assert "cannot be written" in base("export", "none/a.md", status=1).output


def test_a_big_file_shows_how_far_it_is_on_a_terminal(base: Base) -> None:
    rng = random.Random(1)
    vocabulary = ["".join(rng.choices("abcdefghijklm", k=8)) for _ in range(5000)]
    rows = (json.dumps({"text": " ".join(rng.choices(vocabulary, k=100))}) for _ in range(2000))
    (base.folder / "big.jsonl").write_text("\n".join(rows))
    said, status = base.typing(("import", "big.jsonl"), ())
    assert status == 0 and "Importing" in said and "2000 created" in said
    number = base.json("entries", "--limit", "1", "--filter", "status = ACTIVE")[0]["name"][-36:]
    assert base.json("show", number[:8])["name"].endswith(number)


def test_counters_of_other_systems_are_seen(base: Base) -> None:
    name = base.add("Crabs have 10 legs.")
    request = RecordFeedbackRequest(parent=f"knowledgeBases/{base.id}")
    request.feedback.add(entry=name, used=5, helpful=2)
    base.stub().RecordFeedback(request)
    assert "used 5, helped 2, harmed 0" in base("show", name).output


def test_a_service_that_is_away_is_told_in_one_sentence(base: Base) -> None:
    for command in (("list",), ("review",), ("audit",), ("stats",), ("import", __file__)):
        result = base(*command, status=1, NESYCD_KNOWLEDGE_ADDRESS="127.0.0.1:9")
        assert "does not answer" in result.output and "Traceback" not in result.output
