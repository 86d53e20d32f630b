"""Finding and reading entries: search, show, entries."""

from __future__ import annotations

import json
from itertools import islice

import click
from nesycd.knowledge.v1 import (
    ENTRY_STATUS_DRAFT,
    FUSION_RANK,
    FUSION_RELATIVE_SCORE,
    FUSION_UNSPECIFIED,
    ListEntriesRequest,
    SearchEntriesRequest,
)

from cli import client
from cli.knowledge import history, looks, names, writing
from cli.knowledge.options import as_json, at_most, err, in_kb, out, with_filter
from cli.watch import to_json

_FUSIONS = {None: FUSION_UNSPECIFIED, "relative-score": FUSION_RELATIVE_SCORE, "rank": FUSION_RANK}
_SHARE = click.FloatRange(0, 1)


@click.command()
@click.argument("query")
@in_kb
@click.option("--top-k", type=click.IntRange(1, 100), default=5, show_default=True)
@click.option("--mode", type=click.Choice(["bm25", "vector", "hybrid"]), help="Default: the knowledge base's.")
@with_filter
@click.option("--minimum-score", type=float, default=0.0, help="Leave out what scores less.")
@click.option("--exclude", "excluded", multiple=True, metavar="ENTRY", help="Do not find this entry. Repeatable.")
@click.option("--exclude-case", default="", help="Do not find entries whose only source is this case.")
@click.option("--hybrid-weight", type=_SHARE, help="hybrid: the share of the meaning. Default: 0.5.")
@click.option("--fusion", type=click.Choice(["relative-score", "rank"]), help="hybrid: how two rankings become one.")
@click.option("--feedback-weight", type=_SHARE, default=0.0, help="How much feedback counts. Default: not at all.")
@click.option("--explain", is_flag=True, help="Say how the scores came about.")
@as_json
def search(
    query: str,
    base: str,
    top_k: int,
    mode: str | None,
    expression: str,
    minimum_score: float,
    excluded: tuple[str, ...],
    exclude_case: str,
    hybrid_weight: float | None,
    fusion: str | None,
    feedback_weight: float,
    explain: bool,
    json_output: bool,
) -> None:
    """The entries that fit QUERY best. Only active ones, unless the filter names a status."""
    request = SearchEntriesRequest(
        parent=names.chosen(base),
        query=query,
        mode=f"SEARCH_MODE_{(mode or 'unspecified').upper()}",
        top_k=top_k,
        filter=expression,
        minimum_score=minimum_score,
        exclude_entries=[names.entry_name(entry, base) for entry in excluded],
        exclude_sole_source_case=exclude_case,
        hybrid_weight=hybrid_weight,
        fusion=_FUSIONS[fusion],
        feedback_weight=feedback_weight,
        explain=explain,
    )
    response = client.call("knowledge", "SearchEntries", request)
    if json_output:
        click.echo(to_json(response))
        return
    for result in response.results:
        entry = result.entry
        out.print(f"{result.score:7.3f}  {entry.text}", markup=False, highlight=False)
        out.print(f"         {entry.name}", style="dim", soft_wrap=True)
        if result.explanation:
            out.print(f"         {result.explanation}", style="dim", markup=False)
    if not response.results:
        err.print("Nothing was found.")


@click.command()
@click.argument("entry")
@in_kb
@click.option("--revisions", is_flag=True, help="Also what it was before; as `nesycd kb history`.")
@as_json
def show(entry: str, base: str, revisions: bool, json_output: bool) -> None:
    """One entry, by its name, its id or the first 8 characters of its id."""
    found = names.get(entry, base)
    if json_output and revisions:
        made = list(history.revisions_of(found.name))
        click.echo(
            json.dumps({"entry": looks.to_dict(found), "revisions": [looks.to_dict(revision) for revision in made]})
        )
    elif json_output:
        click.echo(to_json(found))
    else:
        looks.print_entry(found)
        if found.status == ENTRY_STATUS_DRAFT:
            looks.tell_waiting(found, writing.conflicts_of(found), base, out)
        if revisions:
            history.print_revisions(found.name, limit=0)


@click.command()
@in_kb
@with_filter
@at_most
@as_json
def entries(base: str, expression: str, limit: int, json_output: bool) -> None:
    """List entries of any status, by id."""
    size = min(limit + 1, 500) if limit else 500
    request = ListEntriesRequest(parent=names.chosen(base), filter=expression, page_size=size)
    pages = names.pages("ListEntries", request)
    found = list(islice((entry for page in pages for entry in page.entries), limit + 1 if limit else None))
    shown = found[:limit] if limit else found
    if json_output:
        looks.print_json(shown)
        return
    if shown:
        out.print(looks.table_of(shown, out))
    else:
        err.print("There are none.")
    if len(found) > len(shown):
        err.print("There are more: --limit 0 lists all.")
