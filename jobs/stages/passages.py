"""passages: a corpus that was there before becomes the run's knowledge base, in place of what an extraction would find.

Output: ``entries.jsonl``: the passages as entries.
"""

from __future__ import annotations

import hashlib
from typing import Any

from jobs import passages
from jobs.artifacts import read_jsonl, write_jsonl
from jobs.context import Context
from jobs.knowledge import ensure_knowledge_base, export_knowledge, import_knowledge
from jobs.stages.prepare import check_unchanged, read_file

# What these and the functions are: jobs/stages/__init__.py.
USES_TEACHER, OWN, CODE = False, False, ("passages.py", "knowledge.py", "rows.py")
_SHARD = 2000
"""Passages that are imported together, all of them or none."""


def relevant(context: Context) -> dict[str, Any]:
    return {"passages": hashlib.sha256(read_file(context.spec.data.passages, "passages")).hexdigest()}


async def run(context: Context) -> dict[str, Any]:
    path = context.spec.data.passages
    content = read_file(path, "passages")
    check_unchanged(context.spec.data, "passages", hashlib.sha256(content).hexdigest(), context.relevant["passages"])
    found = passages.parse(content, path)
    context.folder.write_jsonl("entries.jsonl", found)
    return {"entries": len(found)}


async def settle(context: Context, manifest: dict[str, Any]) -> None:
    await ensure_knowledge_base(context)
    file = context.spec.data.passages.rsplit("/", 1)[-1]
    # In a base that others fill too a passage may be there, and a person may have corrected or retired it: it stays so.
    there = {entry["name"].rsplit("/", 1)[-1] for entry in read_jsonl(await export_knowledge(context))}
    entries = [entry for entry in context.folder.read_jsonl("entries.jsonl") if entry["name"] not in there]
    for start in range(0, len(entries), _SHARD):
        part = write_jsonl(entries[start : start + _SHARD])
        await import_knowledge(
            context, part, file, author="passages", reason=f"the corpus of {context.run_name}", form="jsonl"
        )
        done = min(start + _SHARD, len(entries))
        context.progress(done, len(entries), note="imports passages", saved=done)
    context.store.annotate(context.run_id, knowledge_base=context.knowledge_base)
    total = manifest["entries"]
    context.progress(total, total, note=f"{total} passages", force=True)
