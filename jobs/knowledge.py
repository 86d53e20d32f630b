"""The run's knowledge base: made, filled from a file, written to a file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, Literal

from nesycd.knowledge.v1 import (
    EXCHANGE_FORMAT_JSONL,
    EXCHANGE_FORMAT_MARKDOWN,
    CreateKnowledgeBaseRequest,
    ExportEntriesRequest,
    ImportEntriesRequest,
    ImportEntriesResponse,
    ImportOptions,
    KnowledgeBase,
    RecordFeedbackRequest,
)

from jobs.context import Context
from services.common.errors import AlreadyExists, InvalidArgument, register_reason

INVALID_EXPERT_FILE = register_reason(
    "INVALID_KNOWLEDGE_FILE",
    "A file of knowledge entries has lines that cannot be imported; none of it was.",
    "Correct the lines that the message names.",
)
# The list at the beginning of a Markdown section, up to a blank line.
_SAID_OF_IT = re.compile(
    r"\A- (?:id|title|kind|status|tags|review|cause|conflicts|superseded by|counters|etag|source):.*?(?:\n[ \t]*\n|\Z)",
    re.S,
)
_PIECE = 256 * 1024
_FEEDBACK = 500
_FILE_SECONDS = 600.0
"""What a whole knowledge base may take to be read or written."""


async def ensure_knowledge_base(context: Context) -> None:
    """Makes the run's knowledge base, if there is none of its name."""
    request = CreateKnowledgeBaseRequest(
        knowledge_base_id=context.knowledge_base_id,
        knowledge_base=KnowledgeBase(
            title=context.spec.name, description=f"What the student of {context.run_name} lacked."
        ),
        request_id=f"{context.run_id}-knowledge",
    )
    try:
        await context.services.call(context.services.knowledge.CreateKnowledgeBase, request, what="knowledge")
    except AlreadyExists:
        return


async def export_knowledge(context: Context) -> bytes:
    """The run's knowledge base as JSONL."""
    request = ExportEntriesRequest(parent=context.knowledge_base, format=EXCHANGE_FORMAT_JSONL)
    return await context.services.download(
        context.services.knowledge.ExportEntries, request, what="knowledge", seconds=_FILE_SECONDS
    )


async def import_knowledge(
    context: Context, content: bytes, file: str, *, author: str, reason: str, form: Literal["", "jsonl"] = ""
) -> ImportEntriesResponse:
    """Reads a file of entries into the run's knowledge base, all of it or nothing. Done twice it changes nothing more.

    It counts as looked at: an expert's file, or a base as it was. What waited for a person goes on waiting.

    Args:
        context: The stage.
        content: The file.
        file: Its name: ``.md`` is Markdown, all else JSONL; for errors.
        author: Who imports.
        reason: Why.
        form: The format, where the file's name does not tell.

    Raises:
        InvalidArgument: Reason INVALID_KNOWLEDGE_FILE; ``file:line`` and what is wrong there.
    """
    options = ImportOptions(
        parent=context.knowledge_base,
        format=EXCHANGE_FORMAT_MARKDOWN if not form and _is_markdown(file) else EXCHANGE_FORMAT_JSONL,
        atomic=True,
        reviewed=True,
        author=author,
        reason=reason,
    )
    pieces = [content[start : start + _PIECE] for start in range(0, len(content), _PIECE)]
    messages = [ImportEntriesRequest(options=options), *(ImportEntriesRequest(data=piece) for piece in pieces)]
    response = await context.services.call(
        context.services.knowledge.ImportEntries, messages, what="knowledge", seconds=_FILE_SECONDS
    )
    if response.problems:
        places = [(f"{file}:{p.line}", p.error.message) for p in response.problems[:10]]
        text = "; ".join(f"{place}: {sentence}" for place, sentence in places)
        raise InvalidArgument(f"{text}", reason=INVALID_EXPERT_FILE, violations=places)
    return response


def texts_of(content: bytes, file: str) -> dict[str, str]:
    """What a file of entries gives to be read, by ``file:line``; of a file that `import_knowledge` took.

    Args:
        content: The file.
        file: Its name: ``.md`` is Markdown, all else JSONL.
    """
    lines = content.decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    if not _is_markdown(file):
        entries = {f"{file}:{at}": json.loads(line) for at, line in enumerate(lines, 1) if line.strip()}
        return {place: entry["text"] for place, entry in entries.items() if entry.get("text")}
    starts = [at for at, line in enumerate(lines) if line.startswith("## ") or line == "##"]
    texts = {}
    for start, end in pairwise([*starts, len(lines)]):
        body = _SAID_OF_IT.sub("", "\n".join(lines[start + 1 : end]).strip(), count=1)
        texts[f"{file}:{start + 1}"] = body.partition("\n### Index text")[0].strip()
    return texts


def _is_markdown(file: str) -> bool:
    return file.endswith((".md", ".markdown"))


async def record_feedback(context: Context, lines: Iterable[Mapping[str, Any]], what: str = "") -> None:
    """Adds what a stage has measured to the counters of entries; once, however often this is done.

    Args:
        context: The stage.
        lines: `entry` (its name), `used`, `helped` and `harmed` of each.
        what: Tells several measurements of one stage apart.
    """
    feedback = [
        RecordFeedbackRequest.Feedback(
            entry=line["entry"], used=line["used"], helpful=line["helped"], harmful=line["harmed"]
        )
        for line in lines
    ]
    for start in range(0, len(feedback), _FEEDBACK):
        request = RecordFeedbackRequest(
            parent=context.knowledge_base, feedback=feedback[start : start + _FEEDBACK],
            request_id=f"{context.run_id}-{context.folder.digest[:12]}-{what}{start}",
        )  # fmt: skip
        await context.services.call(context.services.knowledge.RecordFeedback, request, what="knowledge")
