"""publish: the student is served under its alias, with what it reads; the report is written.

Output: ``report.html``, ``report.md``, ``published.json``.
"""

from __future__ import annotations

import json
import time
from typing import Any

from nesycd.student.v1 import Alias, SetAliasRequest

from jobs.adapters import load_adapter, unload_adapters
from jobs.context import Context
from jobs.report import make_report
from jobs.serving import retrieval

# What these and the functions are: jobs/stages/__init__.py.
USES_TEACHER, OWN, CODE = False, True, ("report",)


def relevant(context: Context) -> dict[str, Any]:
    return {"alias": context.spec.publish.alias, "knowledge": context.spec.knowledge.model_dump(mode="json")}


def _reads(context: Context) -> bool:
    """Whether the run filled a knowledge base."""
    return bool({"extract", "passages"} & context.inputs.keys())


def adapter_of(context: Context) -> str:
    """The run's student: the best S_E, or S_P; "" for a method that trains none."""
    if any(stage == "train-augmented" for stage, _ in context.adapters):
        return context.best_augmented_adapter
    return context.general_adapter if context.adapters else ""


async def run(context: Context) -> dict[str, Any]:
    adapter = adapter_of(context)
    reads = _reads(context)
    facts = {
        "name": context.run_name, "spec": context.spec.dump(), "adapter": adapter,
        "knowledge_base": context.knowledge_base if reads else "", "stages": stage_costs(context),
    }  # fmt: skip
    for name, text in make_report(facts, context.rounds).items():
        context.folder.write(name, text.encode())
    alias = f"aliases/{context.spec.publish.alias}" if context.spec.publish.alias and adapter else ""
    published = {
        "run": context.run_name, "adapter": adapter, "alias": alias, "knowledge_base": facts["knowledge_base"],
        "published": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }  # fmt: skip
    context.folder.write("published.json", json.dumps(published, indent=2).encode())
    return {"adapter": adapter, "alias": alias}


async def settle(context: Context, manifest: dict[str, Any]) -> None:
    # First: the report is there, whatever the student says.
    context.store.annotate(context.run_id, report_uri=f"{context.folder.uri}/report.html", adapter=manifest["adapter"])
    if manifest["alias"]:
        await load_adapter(context, manifest["adapter"])
        alias = Alias(name=manifest["alias"], adapter=manifest["adapter"])
        if _reads(context):
            alias.retrieval.CopyFrom(retrieval(context))
        await context.services.call(context.services.student.SetAlias, SetAliasRequest(alias=alias), what="student")
    # Else each run would leave students more to hold for ever, and a comparison has up to 256.
    published = {manifest["adapter"]} if manifest["alias"] else set()
    await unload_adapters(context.services, context.run_id, set(context.adapters.values()) - published)
    context.progress(1, 1, force=True)


def stage_costs(context: Context) -> list[dict[str, Any]]:
    """What each stage took in this run: a stage that another run had made cost nothing."""
    record = context.store.get(context.run_id)
    stages = record.stages if record else []
    several = len({stage.round for stage in stages}) > 1
    costs = []
    for stage in stages:
        folder = context.rounds.get((stage.name, stage.round))
        if folder is None:
            continue
        manifest = folder.manifest() or {}
        teacher = {} if stage.reused else manifest.get("teacher", {})
        costs.append(
            {
                "name": f"{stage.name} {stage.round}" if several else stage.name, "seconds": stage.seconds,
                "reused_from": f"runs/{manifest.get('run', '')}" if stage.reused else "", "attempts": stage.attempts,
                "teacher_calls": teacher.get("calls", 0), "prompt_tokens": teacher.get("prompt_tokens", 0),
                "completion_tokens": teacher.get("completion_tokens", 0), "cost_usd": teacher.get("cost_usd", 0.0),
            }
        )  # fmt: skip
    return costs
