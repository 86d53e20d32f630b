"""Writes docs/errors.md: every reason that an error can have, from the catalogue in services/common/errors.py.

    python docs/make_errors.py            # writes
    python docs/make_errors.py --check    # only says whether the page is up to date

Meaning and remedy stand where the reason is registered. The status code is that of the exception class with which the
reason is raised, read from the source: importing what raises them would import torch.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "errors.md"
sys.path.insert(0, str(ROOT))

from services.common import errors  # noqa: E402

GROUPS = {
    "services.common": "Every service",
    "services.teacher": "Teacher",
    "services.extraction": "Extraction",
    "services.knowledge": "Knowledge",
    "services.student": "Student",
    "jobs": "Run specs and workers",
    "services.runs": "Runs",  # after the jobs, which it imports
}
HEADER = """# Errors

<!-- Made by docs/make_errors.py from the catalogue in the code. Do not edit: run `python docs/make_errors.py`. -->

Every error is a gRPC status with [google.rpc details](https://google.aip.dev/193). `ErrorInfo` is always there: `domain`
is `nesycd`, `reason` is one of those below, `metadata` holds further facts. With it come, where they fit, `BadRequest` (which fields),
`ResourceInfo` (which resource), `QuotaFailure`, `PreconditionFailure`, `RetryInfo` (after how many seconds a repetition makes sense) and
`RequestInfo` (the id to look for in the server's log). A program looks at the reason; the message is for people. In a stream of rows the
error of one row is a `nesycd.common.v1.Status` in its result, and the other rows go on. A run that fails keeps reason and message in
`Run.error`. [each_service.py](../examples/clients/each_service.py) shows how a client reads a reason.

Prompts, questions and secrets stand in no error.
"""
ONLY_IN_RUNS = "in `Run.error`"


def sources() -> Iterator[Path]:
    """The Python files of the services and the jobs."""
    for folder in ("services", "jobs"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    """The module that a file is."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def register_all() -> dict[str, list[str]]:
    """Imports every module that registers reasons.

    Returns:
        The reasons of each group of GROUPS, as the page shows them.
    """
    modules = [module_name(path) for path in sources() if "register_reason(" in path.read_text(encoding="utf-8")]
    grouped: dict[str, list[str]] = {group: [] for group in GROUPS.values()}
    for prefix, group in GROUPS.items():  # services.common first: the others import it
        for module in modules:
            if module == prefix or module.startswith(prefix + "."):
                importlib.import_module(module)
        known = {reason for reasons in grouped.values() for reason in reasons}
        new = [reason for reason in errors.REASONS if reason not in known]
        # The common ones stand in the order of the catalogue, which is by code; the others do not hang on who imports whom.
        grouped[group] += new if prefix == "services.common" else sorted(new)
    return grouped


def status_codes() -> dict[str, set[str]]:
    """The names of the status codes with which each reason is raised anywhere in the source."""
    classes = {
        name: cls for name, cls in vars(errors).items() if isinstance(cls, type) and issubclass(cls, errors.NesycdError)
    }
    codes: dict[str, set[str]] = {}
    for cls in classes.values():
        codes.setdefault(cls.default_reason, set()).add(cls.code.name)
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sources()]
    constants = dict(pair for tree in trees for pair in _constants(tree))
    for tree in trees:
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            raised = next((classes[word] for word in _words(node.func) if word in classes), None)
            given = next((keyword.value for keyword in node.keywords if keyword.arg == "reason"), None)
            if raised is not None and given is not None:
                for reason in _reasons(given):
                    codes.setdefault(constants.get(reason, reason), set()).add(raised.code.name)
    return codes


def _constants(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Name and reason of each `NAME = register_reason("REASON", ...)`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and isinstance(node.targets[0], ast.Name):
            called, arguments = list(_words(node.value.func)), node.value.args
            if called[-1:] == ["register_reason"] and arguments and isinstance(arguments[0], ast.Constant):
                yield node.targets[0].id, str(arguments[0].value)


def _words(node: ast.expr) -> Iterator[str]:
    """The names in `a.b.c`."""
    if isinstance(node, ast.Attribute):
        yield from _words(node.value)
        yield node.attr
    elif isinstance(node, ast.Name):
        yield node.id


def _reasons(node: ast.expr) -> Iterator[str]:
    """The reasons that an expression can be, or the constants that hold them."""
    if isinstance(node, ast.IfExp):
        yield from _reasons(node.body)
        yield from _reasons(node.orelse)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif words := list(_words(node)):
        yield words[-1]


def page() -> str:
    """The text of docs/errors.md."""
    grouped, codes = register_all(), status_codes()
    parts = [HEADER]
    for group, reasons in grouped.items():
        if not reasons:
            continue
        parts.append(f"\n## {group}\n\n| reason | status code | meaning | what to do |\n|---|---|---|---|\n")
        for reason in reasons:
            known = errors.REASONS[reason]
            code = ", ".join(sorted(codes.get(reason, set()))) or ONLY_IN_RUNS
            cells = [text.replace("|", "\\|") for text in (f"`{reason}`", code, known.meaning, known.remedy)]
            parts.append(f"| {' | '.join(cells)} |\n")
    return "".join(parts)


def main() -> None:
    """Writes the page, or compares it."""
    text = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
        sys.exit("docs/errors.md is out of date: run `python docs/make_errors.py` and commit it")


if __name__ == "__main__":
    main()
