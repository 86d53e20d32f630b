"""The reasons of errors that only the knowledge store raises."""

from __future__ import annotations

from services.common.errors import register_reason

ETAG_MISMATCH = register_reason(
    "ETAG_MISMATCH",
    "Somebody else changed it after the caller read it.",
    "Read it again, bring both changes together, and write with the new etag.",
)
INVALID_FILTER = register_reason(
    "INVALID_FILTER",
    "The filter is not of the supported subset of AIP-160.",
    "The message says at which character and what was expected there.",
)
NO_EMBEDDER = register_reason(
    "NO_EMBEDDER",
    "A search by meaning was asked of a knowledge base without vectors.",
    "Set NESYCD_KNOWLEDGE_EMBEDDER and wait until its vectors are made, or search with BM25.",
)
KNOWLEDGE_BASE_NOT_EMPTY = register_reason(
    "KNOWLEDGE_BASE_NOT_EMPTY",
    "A knowledge base that holds entries was to be removed.",
    "Set force to remove it with its entries.",
)
TOO_MANY_SOURCES = register_reason(
    "TOO_MANY_SOURCES",
    "An entry has as many sources as it can hold.",
    "Remove sources that are no longer needed.",
)
DATA_FOLDER_IN_USE = register_reason(
    "DATA_FOLDER_IN_USE",
    "Another process owns the data folder of the knowledge store.",
    "Stop it, or set another NESYCD_KNOWLEDGE_DATA_DIR; several replicas need Weaviate.",
)
EMBEDDER_NOT_INSTALLED = register_reason(
    "EMBEDDER_NOT_INSTALLED",
    "The embedder of the knowledge store needs packages that are not there.",
    "Install the extra `embedder`, or set NESYCD_KNOWLEDGE_EMBEDDER=none.",
)
IMPORT_TOO_LARGE = register_reason(
    "IMPORT_TOO_LARGE",
    "An import that is all or nothing has more entries than one transaction takes.",
    "Split the file, or import without atomic.",
)
EMBEDDER_UNAVAILABLE = register_reason(
    "EMBEDDER_UNAVAILABLE",
    "The embedder's endpoint is down, too slow, limits the rate, or has not answered yet since the start.",
    "Repeat after the time in retry_info, or search with BM25; writes are kept and get their vectors later.",
)
EMBEDDER_MISCONFIGURED = register_reason(
    "EMBEDDER_MISCONFIGURED",
    "The embedder's model folder cannot be used, or its endpoint refuses the key, the model or the request.",
    "Correct the setting that the message names, and restart the knowledge store; BM25 works meanwhile.",
)
EMBEDDER_REBUILDING = register_reason(
    "EMBEDDER_REBUILDING",
    "A search by meaning was asked of a knowledge base whose vectors are being made for another embedder.",
    "Wait until KnowledgeBase.embedder_rebuild is gone, or search with BM25.",
)
NOT_IN_REVIEW = register_reason(
    "NOT_IN_REVIEW",
    "A decision was made about an entry that does not wait for one.",
    "Look at it: somebody else decided before, or it never was a DRAFT; UpdateEntry changes it all the same.",
)
STORE_UNAVAILABLE = register_reason(
    "STORE_UNAVAILABLE",
    "The knowledge store cannot reach its back-end, or the back-end gave no answer in time.",
    "Repeat after the time in retry_info; a write may have happened, so repeat it with the same ids.",
)
STORE_ACCESS_DENIED = register_reason(
    "STORE_ACCESS_DENIED",
    "The back-end of the knowledge store refuses the service's key.",
    "Correct NESYCD_KNOWLEDGE_WEAVIATE_API_KEY, and restart the knowledge store.",
)
STORE_SCHEMA_MISMATCH = register_reason(
    "STORE_SCHEMA_MISMATCH",
    "A collection of the name that the knowledge store uses has another schema.",
    "Remove the collection that the message names, or use another Weaviate.",
)
