"""Files of knowledge entries, as the jobs read them."""

from __future__ import annotations

from jobs.knowledge import texts_of
from services.knowledge.entries import Entry, EntryKind
from services.knowledge.exchange import MARKDOWN_HEADER, write_jsonl, write_markdown

TEXTS = ("Spiders have 8 legs.", "- kinds of mites\n\nThey have 8 legs.", "- a list", "one\n\n### not an index\n\ntwo")
ENTRIES = [
    Entry(kb="k", id=f"e{at}", text=text, kind=EntryKind.FACT, title=title, index_text=index, tags=("legs",))
    for at, (text, title, index) in enumerate(
        zip(TEXTS, ("Spiders", "", "", "x"), ("how many", "", "y", ""), strict=True)
    )
]


def test_the_texts_of_an_exported_file_are_its_entries_texts_in_either_format() -> None:
    for file, text in (
        ("k.jsonl", "\n".join(write_jsonl(entry) for entry in ENTRIES)),
        ("k.md", MARKDOWN_HEADER + "".join(write_markdown(entry) for entry in ENTRIES)),
        ("k.md", (MARKDOWN_HEADER + "".join(write_markdown(entry) for entry in ENTRIES)).replace("\n", "\r\n")),
    ):
        found = texts_of(text.encode(), file)
        assert tuple(found.values()) == TEXTS
        place = next(iter(found))
        assert place.startswith(f"{file}:")
        assert text.splitlines()[int(place.rsplit(":", 1)[1]) - 1].startswith(("{", "## Spiders"))
