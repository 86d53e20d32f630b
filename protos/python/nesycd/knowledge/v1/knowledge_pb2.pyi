import datetime

from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from nesycd.common.v1 import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EntryKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENTRY_KIND_UNSPECIFIED: _ClassVar[EntryKind]
    ENTRY_KIND_SUMMARY: _ClassVar[EntryKind]
    ENTRY_KIND_FACT: _ClassVar[EntryKind]
    ENTRY_KIND_CASE: _ClassVar[EntryKind]

class EntryStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENTRY_STATUS_UNSPECIFIED: _ClassVar[EntryStatus]
    ENTRY_STATUS_DRAFT: _ClassVar[EntryStatus]
    ENTRY_STATUS_ACTIVE: _ClassVar[EntryStatus]
    ENTRY_STATUS_SUPERSEDED: _ClassVar[EntryStatus]
    ENTRY_STATUS_RETIRED: _ClassVar[EntryStatus]

class ReviewCause(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REVIEW_CAUSE_UNSPECIFIED: _ClassVar[ReviewCause]
    REVIEW_CAUSE_NEAR_DUPLICATE: _ClassVar[ReviewCause]
    REVIEW_CAUSE_CONTRADICTION: _ClassVar[ReviewCause]

class SearchMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEARCH_MODE_UNSPECIFIED: _ClassVar[SearchMode]
    SEARCH_MODE_BM25: _ClassVar[SearchMode]
    SEARCH_MODE_VECTOR: _ClassVar[SearchMode]
    SEARCH_MODE_HYBRID: _ClassVar[SearchMode]

class Fusion(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FUSION_UNSPECIFIED: _ClassVar[Fusion]
    FUSION_RELATIVE_SCORE: _ClassVar[Fusion]
    FUSION_RANK: _ClassVar[Fusion]

class ReviewDecision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REVIEW_DECISION_UNSPECIFIED: _ClassVar[ReviewDecision]
    REVIEW_DECISION_APPROVE: _ClassVar[ReviewDecision]
    REVIEW_DECISION_REJECT: _ClassVar[ReviewDecision]
    REVIEW_DECISION_MERGE: _ClassVar[ReviewDecision]
    REVIEW_DECISION_REPLACE: _ClassVar[ReviewDecision]

class ExchangeFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXCHANGE_FORMAT_UNSPECIFIED: _ClassVar[ExchangeFormat]
    EXCHANGE_FORMAT_JSONL: _ClassVar[ExchangeFormat]
    EXCHANGE_FORMAT_MARKDOWN: _ClassVar[ExchangeFormat]

class ImportOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    IMPORT_OUTCOME_UNSPECIFIED: _ClassVar[ImportOutcome]
    IMPORT_OUTCOME_CREATED: _ClassVar[ImportOutcome]
    IMPORT_OUTCOME_UPDATED: _ClassVar[ImportOutcome]
    IMPORT_OUTCOME_MERGED: _ClassVar[ImportOutcome]
    IMPORT_OUTCOME_FOR_REVIEW: _ClassVar[ImportOutcome]
ENTRY_KIND_UNSPECIFIED: EntryKind
ENTRY_KIND_SUMMARY: EntryKind
ENTRY_KIND_FACT: EntryKind
ENTRY_KIND_CASE: EntryKind
ENTRY_STATUS_UNSPECIFIED: EntryStatus
ENTRY_STATUS_DRAFT: EntryStatus
ENTRY_STATUS_ACTIVE: EntryStatus
ENTRY_STATUS_SUPERSEDED: EntryStatus
ENTRY_STATUS_RETIRED: EntryStatus
REVIEW_CAUSE_UNSPECIFIED: ReviewCause
REVIEW_CAUSE_NEAR_DUPLICATE: ReviewCause
REVIEW_CAUSE_CONTRADICTION: ReviewCause
SEARCH_MODE_UNSPECIFIED: SearchMode
SEARCH_MODE_BM25: SearchMode
SEARCH_MODE_VECTOR: SearchMode
SEARCH_MODE_HYBRID: SearchMode
FUSION_UNSPECIFIED: Fusion
FUSION_RELATIVE_SCORE: Fusion
FUSION_RANK: Fusion
REVIEW_DECISION_UNSPECIFIED: ReviewDecision
REVIEW_DECISION_APPROVE: ReviewDecision
REVIEW_DECISION_REJECT: ReviewDecision
REVIEW_DECISION_MERGE: ReviewDecision
REVIEW_DECISION_REPLACE: ReviewDecision
EXCHANGE_FORMAT_UNSPECIFIED: ExchangeFormat
EXCHANGE_FORMAT_JSONL: ExchangeFormat
EXCHANGE_FORMAT_MARKDOWN: ExchangeFormat
IMPORT_OUTCOME_UNSPECIFIED: ImportOutcome
IMPORT_OUTCOME_CREATED: ImportOutcome
IMPORT_OUTCOME_UPDATED: ImportOutcome
IMPORT_OUTCOME_MERGED: ImportOutcome
IMPORT_OUTCOME_FOR_REVIEW: ImportOutcome

class KnowledgeBase(_message.Message):
    __slots__ = ("name", "title", "description", "entry_count", "version", "embedder", "embedding_dimension", "etag", "create_time", "update_time", "active_entry_count", "embedder_rebuild")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    ENTRY_COUNT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    EMBEDDER_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_DIMENSION_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_ENTRY_COUNT_FIELD_NUMBER: _ClassVar[int]
    EMBEDDER_REBUILD_FIELD_NUMBER: _ClassVar[int]
    name: str
    title: str
    description: str
    entry_count: int
    version: int
    embedder: str
    embedding_dimension: int
    etag: str
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    active_entry_count: int
    embedder_rebuild: EmbedderRebuild
    def __init__(self, name: _Optional[str] = ..., title: _Optional[str] = ..., description: _Optional[str] = ..., entry_count: _Optional[int] = ..., version: _Optional[int] = ..., embedder: _Optional[str] = ..., embedding_dimension: _Optional[int] = ..., etag: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., active_entry_count: _Optional[int] = ..., embedder_rebuild: _Optional[_Union[EmbedderRebuild, _Mapping]] = ...) -> None: ...

class EmbedderRebuild(_message.Message):
    __slots__ = ("embedder", "done_count", "entry_count")
    EMBEDDER_FIELD_NUMBER: _ClassVar[int]
    DONE_COUNT_FIELD_NUMBER: _ClassVar[int]
    ENTRY_COUNT_FIELD_NUMBER: _ClassVar[int]
    embedder: str
    done_count: int
    entry_count: int
    def __init__(self, embedder: _Optional[str] = ..., done_count: _Optional[int] = ..., entry_count: _Optional[int] = ...) -> None: ...

class Source(_message.Message):
    __slots__ = ("case_id", "run", "teacher_call", "author", "citation")
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    TEACHER_CALL_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    CITATION_FIELD_NUMBER: _ClassVar[int]
    case_id: str
    run: str
    teacher_call: str
    author: str
    citation: str
    def __init__(self, case_id: _Optional[str] = ..., run: _Optional[str] = ..., teacher_call: _Optional[str] = ..., author: _Optional[str] = ..., citation: _Optional[str] = ...) -> None: ...

class Counters(_message.Message):
    __slots__ = ("used", "helpful", "harmful")
    USED_FIELD_NUMBER: _ClassVar[int]
    HELPFUL_FIELD_NUMBER: _ClassVar[int]
    HARMFUL_FIELD_NUMBER: _ClassVar[int]
    used: int
    helpful: int
    harmful: int
    def __init__(self, used: _Optional[int] = ..., helpful: _Optional[int] = ..., harmful: _Optional[int] = ...) -> None: ...

class Entry(_message.Message):
    __slots__ = ("name", "kind", "title", "text", "index_text", "tags", "status", "sources", "counters", "revision", "etag", "create_time", "update_time", "review_reason", "superseded_by", "review_cause", "conflicting_entries")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    INDEX_TEXT_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    REVIEW_REASON_FIELD_NUMBER: _ClassVar[int]
    SUPERSEDED_BY_FIELD_NUMBER: _ClassVar[int]
    REVIEW_CAUSE_FIELD_NUMBER: _ClassVar[int]
    CONFLICTING_ENTRIES_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: EntryKind
    title: str
    text: str
    index_text: str
    tags: _containers.RepeatedScalarFieldContainer[str]
    status: EntryStatus
    sources: _containers.RepeatedCompositeFieldContainer[Source]
    counters: Counters
    revision: int
    etag: str
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    review_reason: str
    superseded_by: str
    review_cause: ReviewCause
    conflicting_entries: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[_Union[EntryKind, str]] = ..., title: _Optional[str] = ..., text: _Optional[str] = ..., index_text: _Optional[str] = ..., tags: _Optional[_Iterable[str]] = ..., status: _Optional[_Union[EntryStatus, str]] = ..., sources: _Optional[_Iterable[_Union[Source, _Mapping]]] = ..., counters: _Optional[_Union[Counters, _Mapping]] = ..., revision: _Optional[int] = ..., etag: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., review_reason: _Optional[str] = ..., superseded_by: _Optional[str] = ..., review_cause: _Optional[_Union[ReviewCause, str]] = ..., conflicting_entries: _Optional[_Iterable[str]] = ...) -> None: ...

class EntryRevision(_message.Message):
    __slots__ = ("name", "entry", "author", "reason", "create_time")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    entry: Entry
    author: str
    reason: str
    create_time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., entry: _Optional[_Union[Entry, _Mapping]] = ..., author: _Optional[str] = ..., reason: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class CreateKnowledgeBaseRequest(_message.Message):
    __slots__ = ("knowledge_base_id", "knowledge_base", "request_id")
    KNOWLEDGE_BASE_ID_FIELD_NUMBER: _ClassVar[int]
    KNOWLEDGE_BASE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    knowledge_base_id: str
    knowledge_base: KnowledgeBase
    request_id: str
    def __init__(self, knowledge_base_id: _Optional[str] = ..., knowledge_base: _Optional[_Union[KnowledgeBase, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class CreateKnowledgeBaseResponse(_message.Message):
    __slots__ = ("knowledge_base",)
    KNOWLEDGE_BASE_FIELD_NUMBER: _ClassVar[int]
    knowledge_base: KnowledgeBase
    def __init__(self, knowledge_base: _Optional[_Union[KnowledgeBase, _Mapping]] = ...) -> None: ...

class GetKnowledgeBaseRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetKnowledgeBaseResponse(_message.Message):
    __slots__ = ("knowledge_base",)
    KNOWLEDGE_BASE_FIELD_NUMBER: _ClassVar[int]
    knowledge_base: KnowledgeBase
    def __init__(self, knowledge_base: _Optional[_Union[KnowledgeBase, _Mapping]] = ...) -> None: ...

class ListKnowledgeBasesRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListKnowledgeBasesResponse(_message.Message):
    __slots__ = ("knowledge_bases", "next_page_token")
    KNOWLEDGE_BASES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    knowledge_bases: _containers.RepeatedCompositeFieldContainer[KnowledgeBase]
    next_page_token: str
    def __init__(self, knowledge_bases: _Optional[_Iterable[_Union[KnowledgeBase, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UpdateKnowledgeBaseRequest(_message.Message):
    __slots__ = ("knowledge_base", "update_mask")
    KNOWLEDGE_BASE_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    knowledge_base: KnowledgeBase
    update_mask: _field_mask_pb2.FieldMask
    def __init__(self, knowledge_base: _Optional[_Union[KnowledgeBase, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ...) -> None: ...

class UpdateKnowledgeBaseResponse(_message.Message):
    __slots__ = ("knowledge_base",)
    KNOWLEDGE_BASE_FIELD_NUMBER: _ClassVar[int]
    knowledge_base: KnowledgeBase
    def __init__(self, knowledge_base: _Optional[_Union[KnowledgeBase, _Mapping]] = ...) -> None: ...

class DeleteKnowledgeBaseRequest(_message.Message):
    __slots__ = ("name", "etag", "force")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    name: str
    etag: str
    force: bool
    def __init__(self, name: _Optional[str] = ..., etag: _Optional[str] = ..., force: bool = ...) -> None: ...

class DeleteKnowledgeBaseResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CreateEntryRequest(_message.Message):
    __slots__ = ("parent", "entry", "entry_id", "author", "reason", "merge", "reviewed")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    ENTRY_ID_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MERGE_FIELD_NUMBER: _ClassVar[int]
    REVIEWED_FIELD_NUMBER: _ClassVar[int]
    parent: str
    entry: Entry
    entry_id: str
    author: str
    reason: str
    merge: bool
    reviewed: bool
    def __init__(self, parent: _Optional[str] = ..., entry: _Optional[_Union[Entry, _Mapping]] = ..., entry_id: _Optional[str] = ..., author: _Optional[str] = ..., reason: _Optional[str] = ..., merge: bool = ..., reviewed: bool = ...) -> None: ...

class CreateEntryResponse(_message.Message):
    __slots__ = ("entry", "merged")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    MERGED_FIELD_NUMBER: _ClassVar[int]
    entry: Entry
    merged: bool
    def __init__(self, entry: _Optional[_Union[Entry, _Mapping]] = ..., merged: bool = ...) -> None: ...

class BatchCreateEntriesRequest(_message.Message):
    __slots__ = ("parent", "requests")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    parent: str
    requests: _containers.RepeatedCompositeFieldContainer[CreateEntryRequest]
    def __init__(self, parent: _Optional[str] = ..., requests: _Optional[_Iterable[_Union[CreateEntryRequest, _Mapping]]] = ...) -> None: ...

class BatchCreateEntriesResponse(_message.Message):
    __slots__ = ("results",)
    class Result(_message.Message):
        __slots__ = ("entry", "error", "merged")
        ENTRY_FIELD_NUMBER: _ClassVar[int]
        ERROR_FIELD_NUMBER: _ClassVar[int]
        MERGED_FIELD_NUMBER: _ClassVar[int]
        entry: Entry
        error: _status_pb2.Status
        merged: bool
        def __init__(self, entry: _Optional[_Union[Entry, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., merged: bool = ...) -> None: ...
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[BatchCreateEntriesResponse.Result]
    def __init__(self, results: _Optional[_Iterable[_Union[BatchCreateEntriesResponse.Result, _Mapping]]] = ...) -> None: ...

class GetEntryRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetEntryResponse(_message.Message):
    __slots__ = ("entry",)
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    entry: Entry
    def __init__(self, entry: _Optional[_Union[Entry, _Mapping]] = ...) -> None: ...

class ListEntriesRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token", "filter")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    filter: str
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., filter: _Optional[str] = ...) -> None: ...

class ListEntriesResponse(_message.Message):
    __slots__ = ("entries", "next_page_token")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    next_page_token: str
    def __init__(self, entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UpdateEntryRequest(_message.Message):
    __slots__ = ("entry", "update_mask", "author", "reason", "reviewed")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REVIEWED_FIELD_NUMBER: _ClassVar[int]
    entry: Entry
    update_mask: _field_mask_pb2.FieldMask
    author: str
    reason: str
    reviewed: bool
    def __init__(self, entry: _Optional[_Union[Entry, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ..., author: _Optional[str] = ..., reason: _Optional[str] = ..., reviewed: bool = ...) -> None: ...

class EditConflict(_message.Message):
    __slots__ = ("current", "read")
    CURRENT_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    current: EntryRevision
    read: EntryRevision
    def __init__(self, current: _Optional[_Union[EntryRevision, _Mapping]] = ..., read: _Optional[_Union[EntryRevision, _Mapping]] = ...) -> None: ...

class UpdateEntryResponse(_message.Message):
    __slots__ = ("entry",)
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    entry: Entry
    def __init__(self, entry: _Optional[_Union[Entry, _Mapping]] = ...) -> None: ...

class DeleteEntryRequest(_message.Message):
    __slots__ = ("name", "etag", "author", "reason")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    name: str
    etag: str
    author: str
    reason: str
    def __init__(self, name: _Optional[str] = ..., etag: _Optional[str] = ..., author: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class DeleteEntryResponse(_message.Message):
    __slots__ = ("entry",)
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    entry: Entry
    def __init__(self, entry: _Optional[_Union[Entry, _Mapping]] = ...) -> None: ...

class SearchEntriesRequest(_message.Message):
    __slots__ = ("parent", "query", "mode", "top_k", "filter", "minimum_score", "exclude_entries", "exclude_sole_source_case", "hybrid_weight", "fusion", "explain", "feedback_weight")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_SCORE_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_ENTRIES_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_SOLE_SOURCE_CASE_FIELD_NUMBER: _ClassVar[int]
    HYBRID_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    FUSION_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    FEEDBACK_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    parent: str
    query: str
    mode: SearchMode
    top_k: int
    filter: str
    minimum_score: float
    exclude_entries: _containers.RepeatedScalarFieldContainer[str]
    exclude_sole_source_case: str
    hybrid_weight: float
    fusion: Fusion
    explain: bool
    feedback_weight: float
    def __init__(self, parent: _Optional[str] = ..., query: _Optional[str] = ..., mode: _Optional[_Union[SearchMode, str]] = ..., top_k: _Optional[int] = ..., filter: _Optional[str] = ..., minimum_score: _Optional[float] = ..., exclude_entries: _Optional[_Iterable[str]] = ..., exclude_sole_source_case: _Optional[str] = ..., hybrid_weight: _Optional[float] = ..., fusion: _Optional[_Union[Fusion, str]] = ..., explain: bool = ..., feedback_weight: _Optional[float] = ...) -> None: ...

class SearchResult(_message.Message):
    __slots__ = ("entry", "score", "explanation")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    entry: Entry
    score: float
    explanation: str
    def __init__(self, entry: _Optional[_Union[Entry, _Mapping]] = ..., score: _Optional[float] = ..., explanation: _Optional[str] = ...) -> None: ...

class SearchEntriesResponse(_message.Message):
    __slots__ = ("results", "version")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[SearchResult]
    version: int
    def __init__(self, results: _Optional[_Iterable[_Union[SearchResult, _Mapping]]] = ..., version: _Optional[int] = ...) -> None: ...

class BatchSearchEntriesRequest(_message.Message):
    __slots__ = ("row_id", "request")
    ROW_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    row_id: str
    request: SearchEntriesRequest
    def __init__(self, row_id: _Optional[str] = ..., request: _Optional[_Union[SearchEntriesRequest, _Mapping]] = ...) -> None: ...

class BatchSearchEntriesResponse(_message.Message):
    __slots__ = ("row_id", "response", "error")
    ROW_ID_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    row_id: str
    response: SearchEntriesResponse
    error: _status_pb2.Status
    def __init__(self, row_id: _Optional[str] = ..., response: _Optional[_Union[SearchEntriesResponse, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class ListEntryRevisionsRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListEntryRevisionsResponse(_message.Message):
    __slots__ = ("revisions", "next_page_token")
    REVISIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    revisions: _containers.RepeatedCompositeFieldContainer[EntryRevision]
    next_page_token: str
    def __init__(self, revisions: _Optional[_Iterable[_Union[EntryRevision, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetEntryRevisionRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetEntryRevisionResponse(_message.Message):
    __slots__ = ("revision",)
    REVISION_FIELD_NUMBER: _ClassVar[int]
    revision: EntryRevision
    def __init__(self, revision: _Optional[_Union[EntryRevision, _Mapping]] = ...) -> None: ...

class ListReviewsRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class Review(_message.Message):
    __slots__ = ("entry", "conflicts")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    CONFLICTS_FIELD_NUMBER: _ClassVar[int]
    entry: Entry
    conflicts: _containers.RepeatedCompositeFieldContainer[Entry]
    def __init__(self, entry: _Optional[_Union[Entry, _Mapping]] = ..., conflicts: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ...) -> None: ...

class ListReviewsResponse(_message.Message):
    __slots__ = ("reviews", "next_page_token")
    REVIEWS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    reviews: _containers.RepeatedCompositeFieldContainer[Review]
    next_page_token: str
    def __init__(self, reviews: _Optional[_Iterable[_Union[Review, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ResolveReviewRequest(_message.Message):
    __slots__ = ("name", "decision", "others", "etag", "author", "reason")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    OTHERS_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    name: str
    decision: ReviewDecision
    others: _containers.RepeatedScalarFieldContainer[str]
    etag: str
    author: str
    reason: str
    def __init__(self, name: _Optional[str] = ..., decision: _Optional[_Union[ReviewDecision, str]] = ..., others: _Optional[_Iterable[str]] = ..., etag: _Optional[str] = ..., author: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ResolveReviewResponse(_message.Message):
    __slots__ = ("entry", "others")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    OTHERS_FIELD_NUMBER: _ClassVar[int]
    entry: Entry
    others: _containers.RepeatedCompositeFieldContainer[Entry]
    def __init__(self, entry: _Optional[_Union[Entry, _Mapping]] = ..., others: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ...) -> None: ...

class RollbackEntryRequest(_message.Message):
    __slots__ = ("name", "revision", "etag", "author", "reason")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    name: str
    revision: int
    etag: str
    author: str
    reason: str
    def __init__(self, name: _Optional[str] = ..., revision: _Optional[int] = ..., etag: _Optional[str] = ..., author: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class RollbackEntryResponse(_message.Message):
    __slots__ = ("entry",)
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    entry: Entry
    def __init__(self, entry: _Optional[_Union[Entry, _Mapping]] = ...) -> None: ...

class RecordFeedbackRequest(_message.Message):
    __slots__ = ("parent", "feedback", "request_id")
    class Feedback(_message.Message):
        __slots__ = ("entry", "used", "helpful", "harmful")
        ENTRY_FIELD_NUMBER: _ClassVar[int]
        USED_FIELD_NUMBER: _ClassVar[int]
        HELPFUL_FIELD_NUMBER: _ClassVar[int]
        HARMFUL_FIELD_NUMBER: _ClassVar[int]
        entry: str
        used: int
        helpful: int
        harmful: int
        def __init__(self, entry: _Optional[str] = ..., used: _Optional[int] = ..., helpful: _Optional[int] = ..., harmful: _Optional[int] = ...) -> None: ...
    PARENT_FIELD_NUMBER: _ClassVar[int]
    FEEDBACK_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    parent: str
    feedback: _containers.RepeatedCompositeFieldContainer[RecordFeedbackRequest.Feedback]
    request_id: str
    def __init__(self, parent: _Optional[str] = ..., feedback: _Optional[_Iterable[_Union[RecordFeedbackRequest.Feedback, _Mapping]]] = ..., request_id: _Optional[str] = ...) -> None: ...

class RecordFeedbackResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ImportOptions(_message.Message):
    __slots__ = ("parent", "format", "atomic", "dry_run", "author", "reason", "reviewed", "list_changes")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    ATOMIC_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REVIEWED_FIELD_NUMBER: _ClassVar[int]
    LIST_CHANGES_FIELD_NUMBER: _ClassVar[int]
    parent: str
    format: ExchangeFormat
    atomic: bool
    dry_run: bool
    author: str
    reason: str
    reviewed: bool
    list_changes: bool
    def __init__(self, parent: _Optional[str] = ..., format: _Optional[_Union[ExchangeFormat, str]] = ..., atomic: bool = ..., dry_run: bool = ..., author: _Optional[str] = ..., reason: _Optional[str] = ..., reviewed: bool = ..., list_changes: bool = ...) -> None: ...

class ImportEntriesRequest(_message.Message):
    __slots__ = ("options", "data")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    options: ImportOptions
    data: bytes
    def __init__(self, options: _Optional[_Union[ImportOptions, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class ImportEntriesResponse(_message.Message):
    __slots__ = ("created", "updated", "unchanged", "merged", "for_review", "problems", "changes", "changes_left_out")
    class Problem(_message.Message):
        __slots__ = ("line", "error")
        LINE_FIELD_NUMBER: _ClassVar[int]
        ERROR_FIELD_NUMBER: _ClassVar[int]
        line: int
        error: _status_pb2.Status
        def __init__(self, line: _Optional[int] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...
    class Change(_message.Message):
        __slots__ = ("line", "outcome", "entry", "before")
        LINE_FIELD_NUMBER: _ClassVar[int]
        OUTCOME_FIELD_NUMBER: _ClassVar[int]
        ENTRY_FIELD_NUMBER: _ClassVar[int]
        BEFORE_FIELD_NUMBER: _ClassVar[int]
        line: int
        outcome: ImportOutcome
        entry: Entry
        before: Entry
        def __init__(self, line: _Optional[int] = ..., outcome: _Optional[_Union[ImportOutcome, str]] = ..., entry: _Optional[_Union[Entry, _Mapping]] = ..., before: _Optional[_Union[Entry, _Mapping]] = ...) -> None: ...
    CREATED_FIELD_NUMBER: _ClassVar[int]
    UPDATED_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    MERGED_FIELD_NUMBER: _ClassVar[int]
    FOR_REVIEW_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    CHANGES_LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    created: int
    updated: int
    unchanged: int
    merged: int
    for_review: int
    problems: _containers.RepeatedCompositeFieldContainer[ImportEntriesResponse.Problem]
    changes: _containers.RepeatedCompositeFieldContainer[ImportEntriesResponse.Change]
    changes_left_out: int
    def __init__(self, created: _Optional[int] = ..., updated: _Optional[int] = ..., unchanged: _Optional[int] = ..., merged: _Optional[int] = ..., for_review: _Optional[int] = ..., problems: _Optional[_Iterable[_Union[ImportEntriesResponse.Problem, _Mapping]]] = ..., changes: _Optional[_Iterable[_Union[ImportEntriesResponse.Change, _Mapping]]] = ..., changes_left_out: _Optional[int] = ...) -> None: ...

class ExportEntriesRequest(_message.Message):
    __slots__ = ("parent", "format", "filter")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    parent: str
    format: ExchangeFormat
    filter: str
    def __init__(self, parent: _Optional[str] = ..., format: _Optional[_Union[ExchangeFormat, str]] = ..., filter: _Optional[str] = ...) -> None: ...

class ExportEntriesResponse(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class WatchEntriesRequest(_message.Message):
    __slots__ = ("parent", "watch_token")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    WATCH_TOKEN_FIELD_NUMBER: _ClassVar[int]
    parent: str
    watch_token: str
    def __init__(self, parent: _Optional[str] = ..., watch_token: _Optional[str] = ...) -> None: ...

class WatchEntriesResponse(_message.Message):
    __slots__ = ("entry", "version", "watch_token")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WATCH_TOKEN_FIELD_NUMBER: _ClassVar[int]
    entry: Entry
    version: int
    watch_token: str
    def __init__(self, entry: _Optional[_Union[Entry, _Mapping]] = ..., version: _Optional[int] = ..., watch_token: _Optional[str] = ...) -> None: ...

class ExportAuditRequest(_message.Message):
    __slots__ = ("parent", "since")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    parent: str
    since: _timestamp_pb2.Timestamp
    def __init__(self, parent: _Optional[str] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ExportAuditResponse(_message.Message):
    __slots__ = ("revisions",)
    REVISIONS_FIELD_NUMBER: _ClassVar[int]
    revisions: _containers.RepeatedCompositeFieldContainer[EntryRevision]
    def __init__(self, revisions: _Optional[_Iterable[_Union[EntryRevision, _Mapping]]] = ...) -> None: ...

class GetKnowledgeBaseStatisticsRequest(_message.Message):
    __slots__ = ("name", "top_count")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TOP_COUNT_FIELD_NUMBER: _ClassVar[int]
    name: str
    top_count: int
    def __init__(self, name: _Optional[str] = ..., top_count: _Optional[int] = ...) -> None: ...

class GetKnowledgeBaseStatisticsResponse(_message.Message):
    __slots__ = ("knowledge_base", "by_status", "by_kind", "tags", "counters", "most_used", "most_helpful", "most_harmful")
    class TagCount(_message.Message):
        __slots__ = ("tag", "count")
        TAG_FIELD_NUMBER: _ClassVar[int]
        COUNT_FIELD_NUMBER: _ClassVar[int]
        tag: str
        count: int
        def __init__(self, tag: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...
    class ByStatusEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class ByKindEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    KNOWLEDGE_BASE_FIELD_NUMBER: _ClassVar[int]
    BY_STATUS_FIELD_NUMBER: _ClassVar[int]
    BY_KIND_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    MOST_USED_FIELD_NUMBER: _ClassVar[int]
    MOST_HELPFUL_FIELD_NUMBER: _ClassVar[int]
    MOST_HARMFUL_FIELD_NUMBER: _ClassVar[int]
    knowledge_base: KnowledgeBase
    by_status: _containers.ScalarMap[str, int]
    by_kind: _containers.ScalarMap[str, int]
    tags: _containers.RepeatedCompositeFieldContainer[GetKnowledgeBaseStatisticsResponse.TagCount]
    counters: Counters
    most_used: _containers.RepeatedCompositeFieldContainer[Entry]
    most_helpful: _containers.RepeatedCompositeFieldContainer[Entry]
    most_harmful: _containers.RepeatedCompositeFieldContainer[Entry]
    def __init__(self, knowledge_base: _Optional[_Union[KnowledgeBase, _Mapping]] = ..., by_status: _Optional[_Mapping[str, int]] = ..., by_kind: _Optional[_Mapping[str, int]] = ..., tags: _Optional[_Iterable[_Union[GetKnowledgeBaseStatisticsResponse.TagCount, _Mapping]]] = ..., counters: _Optional[_Union[Counters, _Mapping]] = ..., most_used: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., most_helpful: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., most_harmful: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ...) -> None: ...
