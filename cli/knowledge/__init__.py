"""`nesycd kb`: search, read, correct, review and exchange what the student reads."""

from __future__ import annotations

import click

from cli.knowledge import audit, bases, files, find, history, review, writing
from cli.knowledge.names import kb_name
from cli.problems import Group

__all__ = ["kb", "kb_name"]

SECTIONS: dict[str, list[click.Command]] = {
    "Find": [find.search, find.show, find.entries],
    "Correct": [writing.add, writing.edit, writing.retire, writing.feedback],
    "Review": [review.review, review.approve, review.reject, review.merge, review.replace],
    "History": [history.history_command, history.diff_command, history.rollback, audit.audit, audit.watch_command],
    "Files": [files.import_command, files.export],
    "Knowledge bases": [bases.list_bases, bases.stats, bases.create, bases.rename, bases.delete],
}
"""The commands, as the help shows them."""


class _Sections(Group):
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the commands under what they are for."""
        for heading, commands in SECTIONS.items():
            with formatter.section(heading):
                formatter.write_dl([(str(c.name), c.get_short_help_str(100)) for c in commands])


@click.group(cls=_Sections)
def kb() -> None:
    """Search, read and correct what the student reads.

    ENTRY is an entry's name, its id, or the first 8 characters of its id.
    """


for _commands in SECTIONS.values():
    for _command in _commands:
        kb.add_command(_command)
