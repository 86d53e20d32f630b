"""Which knowledge base and which entry a person means, who gives as little of a name as is needed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import grpc
from nesycd.knowledge.v1 import Entry, GetEntryRequest, ListEntriesRequest, ListKnowledgeBasesRequest
from nesycd.student.v1 import ListAdaptersRequest

from cli import client
from cli.problems import Problem

SHORT = 8
"""Characters of an id that are shown, and the fewest that are taken for an id."""

_PAGE = 500
_WHOLE_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_BEGINNING = re.compile(r"[0-9a-f-]+")


def kb_name(name: str) -> str:
    """`knowledgeBases/{kb}` for an id or a name."""
    return name if name.startswith("knowledgeBases/") else f"knowledgeBases/{name}"


def chosen(base: str) -> str:
    """The knowledge base that was named, else the one of the alias `production`, else the only one.

    Raises:
        Problem: None can be told.
    """
    if base:
        return kb_name(base)
    if served := _served():
        return served
    bases = client.call("knowledge", "ListKnowledgeBases", ListKnowledgeBasesRequest(page_size=2)).knowledge_bases
    if len(bases) == 1:
        return bases[0].name
    raise Problem("which knowledge base? Name it with --kb; `nesycd kb list` shows them")


def _served() -> str:
    """What the served student reads; empty where it reads nothing or does not answer."""
    try:
        aliases = client.call("student", "ListAdapters", ListAdaptersRequest(), timeout=5).aliases
    except (Problem, grpc.aio.AioRpcError):
        return ""
    return next((a.retrieval.knowledge_base for a in aliases if a.name == "aliases/production"), "")


def pages(method: str, request: Any) -> Iterator[Any]:
    """The pages of a list of the knowledge service, one after the other."""
    while True:
        page = client.call("knowledge", method, request)
        yield page
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def entry_id(name: str) -> str:
    """The id in an entry's name, or in that of one of its revisions."""
    return name.split("/")[3] if name.count("/") >= 3 else name


def short_id(name: str) -> str:
    """As much of an entry's id as a person needs."""
    return entry_id(name)[:SHORT]


def entry_name(given: str, base: str) -> str:
    """The full name of an entry.

    Args:
        given: Its name, its id, or the first characters of its id, at least 8.
        base: The knowledge base that was named, or nothing.

    Raises:
        Problem: It is none of these, or no entry or several begin like that.
    """
    if "/" in given:
        parent, _, given = given.rpartition("/entries/")
        if not parent:
            raise Problem(f"{given!r} is not the name of an entry: knowledgeBases/KB/entries/ID")
    else:
        parent = ""
    wanted = given.strip().lower()
    if _WHOLE_ID.fullmatch(wanted):
        return f"{parent or chosen(base)}/entries/{wanted}"
    if not _BEGINNING.fullmatch(wanted) or len(wanted) > 36:
        raise Problem(f"{given!r} is not an entry's id; `nesycd kb search` and `nesycd kb entries` show ids")
    if len(wanted) < SHORT:
        raise Problem(f"{given!r} is too short: give at least {SHORT} characters of the entry's id")
    return _beginning_with(wanted, parent or chosen(base)).name


def _beginning_with(beginning: str, parent: str) -> Entry:
    found: list[Entry] = []
    for page in pages("ListEntries", ListEntriesRequest(parent=parent, page_size=_PAGE)):
        found += [entry for entry in page.entries if entry_id(entry.name).startswith(beginning)]
        # They come by name.
        if page.entries and entry_id(page.entries[-1].name)[: len(beginning)] > beginning:
            break
    if not found:
        raise Problem(f"no entry of {parent} has an id that begins with {beginning}")
    if len(found) > 1:
        listed = "\n".join(f"  {entry_id(entry.name)}  {entry.text[:60]}" for entry in found[:10])
        raise Problem(f"{len(found)} entries begin with {beginning}; give more of the id:\n{listed}")
    return found[0]


def get(given: str, base: str) -> Entry:
    """The entry that a person means."""
    return client.call("knowledge", "GetEntry", GetEntryRequest(name=entry_name(given, base))).entry
