"""Resource names (AIP-121): `knowledgeBases/{kb}`, `.../entries/{uuid}`, `.../revisions/{n}`."""

from __future__ import annotations

import re

from services.common.errors import InvalidArgument

_BASE_ID = re.compile(r"[A-Za-z0-9-]{1,63}")
_ENTRY_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_REVISION = re.compile(r"[1-9][0-9]{0,17}")


def shown(value: str, limit: int = 80) -> str:
    """A caller's value, short and printable, for an error message."""
    text = ascii(value[:limit])
    return text if len(value) <= limit else f"{text} (cut, {len(value)} characters)"


def base_id(value: str, field: str = "knowledge_base_id") -> str:
    """Checks the id of a knowledge base.

    Raises:
        InvalidArgument: It is not 1 to 63 letters, digits and hyphens.
    """
    if not _BASE_ID.fullmatch(value):
        raise InvalidArgument(
            f"{field} {shown(value)} is not an id: use 1 to 63 letters, digits and hyphens", field=field
        )
    return value


def entry_id(value: str, field: str = "entry_id") -> str:
    """Checks the id of an entry, and returns it in lower case.

    Raises:
        InvalidArgument: It is not a UUID.
    """
    lowered = value.lower()
    if not _ENTRY_ID.fullmatch(lowered):
        raise InvalidArgument(f"{field} {shown(value)} is not a UUID of the form 8-4-4-4-12", field=field)
    return lowered


def is_entry_id(value: object) -> bool:
    """Whether it is the id of an entry as they are kept."""
    return isinstance(value, str) and _ENTRY_ID.fullmatch(value) is not None


def base_name(kb: str) -> str:
    """The resource name of a knowledge base."""
    return f"knowledgeBases/{kb}"


def entry_name(kb: str, entry: str) -> str:
    """The resource name of an entry."""
    return f"knowledgeBases/{kb}/entries/{entry}"


def revision_name(kb: str, entry: str, revision: int) -> str:
    """The resource name of a revision of an entry."""
    return f"knowledgeBases/{kb}/entries/{entry}/revisions/{revision}"


def parse_base(name: str, field: str = "name") -> str:
    """The id in `knowledgeBases/{kb}`.

    Raises:
        InvalidArgument: The name has another form.
    """
    parts = name.split("/")
    if len(parts) != 2 or parts[0] != "knowledgeBases":
        raise InvalidArgument(
            f"{field} {shown(name)} is not the name of a knowledge base: knowledgeBases/{{id}}", field=field
        )
    return base_id(parts[1], field)


def parse_entry(name: str, field: str = "name") -> tuple[str, str]:
    """The ids in `knowledgeBases/{kb}/entries/{entry}`.

    Raises:
        InvalidArgument: The name has another form.
    """
    parts = name.split("/")
    if len(parts) != 4 or parts[0] != "knowledgeBases" or parts[2] != "entries":
        raise InvalidArgument(
            f"{field} {shown(name)} is not the name of an entry: knowledgeBases/{{id}}/entries/{{uuid}}", field=field
        )
    return base_id(parts[1], field), entry_id(parts[3], field)


def parse_revision(name: str, field: str = "name") -> tuple[str, str, int]:
    """The ids and the number in `knowledgeBases/{kb}/entries/{entry}/revisions/{n}`.

    Raises:
        InvalidArgument: The name has another form.
    """
    entry, _, number = name.rpartition("/revisions/")
    if not _REVISION.fullmatch(number):
        raise InvalidArgument(
            f"{field} {shown(name)} is not the name of a revision: knowledgeBases/{{id}}/entries/{{uuid}}/revisions/{{n}}",
            field=field,
        )
    return *parse_entry(entry, field), int(number)
