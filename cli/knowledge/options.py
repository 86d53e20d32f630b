"""Options that several commands of `nesycd kb` have, and where they print."""

from __future__ import annotations

import getpass
import os

import click
from rich.console import Console

out = Console()
err = Console(stderr=True)


def user() -> str:
    """The user's name; the number where the machine knows no name, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"


as_json = click.option("--json", "json_output", is_flag=True, help="Print JSON for a script.")
in_kb = click.option(
    "--kb",
    "base",
    default="",
    envvar="NESYCD_KB",
    help="Which knowledge base. Default: $NESYCD_KB, else the one that the served student reads.",
)
by_author = click.option("--author", default=user, help="Who changes it. Default: your user name.")
because = click.option("--reason", default="", help="Why; kept with the revision.")
as_reviewed = click.option(
    "--reviewed",
    is_flag=True,
    help="You have looked at it: it comes in though it nearly repeats or contradicts another.",
)
as_format = click.option(
    "--format", "wanted", type=click.Choice(["jsonl", "markdown"]), help="Default: by the file's ending."
)
at_most = click.option(
    "--limit", type=click.IntRange(min=0), default=50, show_default=True, help="At most this many; 0: all."
)
with_filter = click.option("--filter", "expression", default="", help='For instance "status = DRAFT AND tags:animals".')
