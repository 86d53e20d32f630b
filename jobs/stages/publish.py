"""publish: the student is served under its alias, with what it reads; the report is written.

Output: ``report.html``, ``report.md``, ``published.json``.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from nesycd.student.v1 import Alias, SetAliasRequest

from jobs.adapters import load_adapter
from jobs.context import Context
from jobs.serving import retrieval

USES_TEACHER, OWN, CODE = False, True, ("report.py", "templates/report.html.j2", "templates/report.md.j2")


def relevant(context: Context) -> dict[str, Any]:
    return {"alias": context.spec.publish.alias, "knowledge": context.spec.knowledge.model_dump(mode="json")}


def adapter_of(context: Context) -> str:
    """The adapter that the run made last; "" for a method that trains none."""
    return list(context.adapters.values())[-1] if context.adapters else ""


async def run(context: Context) -> dict[str, Any]:
    # Matplotlib is heavy: only here.
    from jobs.report import write_report

    adapter = adapter_of(context)
    reads = "extract" in context.inputs
    facts = {
        "name": context.run_name, "spec": context.spec.dump(), "adapter": adapter,
        "knowledge_base": context.knowledge_base if reads else "", "stages": stage_costs(context),
    }  # fmt: skip
    folders: dict[str, Path] = {name: folder.local() for name, folder in context.inputs.items()}
    out = context.folder.local("work/report")
    out.mkdir(parents=True, exist_ok=True)
    write_report(facts, folders, out)
    for name in ("report.html", "report.md"):
        context.folder.write(name, (out / name).read_bytes())
    alias = f"aliases/{context.spec.publish.alias}" if context.spec.publish.alias and adapter else ""
    published = {
        "run": context.run_name, "adapter": adapter, "alias": alias, "knowledge_base": facts["knowledge_base"],
        "published": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }  # fmt: skip
    context.folder.write("published.json", json.dumps(published, indent=2).encode())
    return {"adapter": adapter, "alias": alias}


async def settle(context: Context, manifest: dict[str, Any]) -> None:
    if manifest["adapter"]:
        await load_adapter(context, manifest["adapter"])
    if manifest["alias"]:
        alias = Alias(name=manifest["alias"], adapter=manifest["adapter"])
        if "extract" in context.inputs:
            alias.retrieval.CopyFrom(retrieval(context))
        await context.services.call(context.services.student.SetAlias, SetAliasRequest(alias=alias), what="student")
    context.store.annotate(context.run_id, report_uri=f"{context.folder.uri}/report.html", adapter=manifest["adapter"])
    context.progress(1, 1, force=True)


def stage_costs(context: Context) -> list[dict[str, Any]]:
    """What each stage took in this run: a stage that another run had made cost nothing."""
    record = context.store.get(context.run_id)
    costs = []
    for stage in record.stages if record else []:
        folder = context.rounds.get((stage.name, stage.round))
        manifest = (folder.manifest() if folder else None) or {}
        teacher = {} if stage.reused else manifest.get("teacher", {})
        if folder:
            costs.append(
                {
                    "name": stage.name if record and len({s.round for s in record.stages}) == 1 else f"{stage.name} {stage.round}",
                    "seconds": stage.seconds, "reused": stage.reused, "attempts": stage.attempts,
                    "teacher_calls": teacher.get("calls", 0), "prompt_tokens": teacher.get("prompt_tokens", 0),
                    "completion_tokens": teacher.get("completion_tokens", 0), "cost_usd": teacher.get("cost_usd", 0.0),
                }
            )  # fmt: skip
    return costs
