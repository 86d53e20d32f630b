"""Why the teacher gave no answer, as the callers see it. Each class of trouble has a reason of its own and says what to do.

No prompt, no answer and no text of the provider's stands in any of these.
"""

from __future__ import annotations

from services.common import errors
from services.common.errors import register_reason
from services.teacher.backends import Trouble, UpstreamError

BUDGET_EXHAUSTED = register_reason(
    "BUDGET_EXHAUSTED",
    "The next call to the teacher could cost more than is left of the run's budget.",
    "Raise the budget in the run's spec (teacher.budget_usd) and start the run again: paid answers are kept.",
)
PRICE_UNKNOWN = register_reason(
    "PRICE_UNKNOWN",
    "The run has a budget, but no price is known for the teacher's model, so the budget could never stop it.",
    "Set the model's price in NESYCD_TEACHER_PRICES, or give no budget.",
)
CACHE_UNAVAILABLE = register_reason(
    "CACHE_UNAVAILABLE",
    "Redis, which keeps the teacher's answers, does not answer; without it no call is paid.",
    "Start Redis or mend NESYCD_TEACHER_REDIS_URL, then repeat the request.",
)
CACHE_DAMAGED = register_reason(
    "CACHE_DAMAGED",
    "An answer that is stored in Redis cannot be read.",
    "Repeat the request with skip_cache, which replaces it.",
)
TEACHER_TRUNCATED = register_reason(
    "TEACHER_TRUNCATED",
    "The answer was cut off by max_tokens, and again after max_tokens was raised once.",
    "Raise max_tokens in the request, or NESYCD_TEACHER_MAX_TOKENS_LIMIT; or ask for less.",
)
TEACHER_INVALID_ANSWER = register_reason(
    "TEACHER_INVALID_ANSWER",
    "The answer was empty or did not satisfy its JSON schema, also after asking again.",
    "Use a stronger teacher or a simpler schema, or repeat the request with another sample.",
)
TEACHER_BROKEN_RESPONSE = register_reason(
    "TEACHER_BROKEN_RESPONSE",
    "What came back from the teacher's address is not a finished chat completion.",
    "Check that NESYCD_TEACHER_UPSTREAM_URL and NESYCD_TEACHER_BACKEND name the right server, and look at its log.",
)
TEACHER_STREAM_BROKEN = register_reason(
    "TEACHER_STREAM_BROKEN",
    "While an answer was streamed the teacher had to be asked again, and wrote something else than what was given out.",
    "Repeat the request: the new answer is stored and costs nothing more.",
)
TEACHER_REFUSED = register_reason(
    "TEACHER_REFUSED",
    "The provider's content filter or the model refused to answer.",
    "Leave this row out, or ask another teacher.",
)
TEACHER_RATE_LIMITED = register_reason(
    "TEACHER_RATE_LIMITED",
    "The teacher limits the rate, for longer than the proxy waits.",
    "Repeat the request after the given delay; lower NESYCD_TEACHER_REQUESTS_PER_MINUTE or NESYCD_TEACHER_SLOTS.",
)
TEACHER_QUOTA_EXHAUSTED = register_reason(
    "TEACHER_QUOTA_EXHAUSTED",
    "The account at the teacher's provider has no quota or money left.",
    "Top the account up, then start again: paid answers are kept.",
)
TEACHER_UNAVAILABLE = register_reason(
    "TEACHER_UNAVAILABLE",
    "The teacher cannot be reached or fails, also after several attempts.",
    "Check NESYCD_TEACHER_UPSTREAM_URL and the teacher's state, then repeat the request.",
)
TEACHER_KEY_REFUSED = register_reason(
    "TEACHER_KEY_REFUSED",
    "The teacher refused the proxy's key (HTTP 401 or 403).",
    "Set NESYCD_TEACHER_UPSTREAM_API_KEY to a valid key and start the teacher proxy again.",
)
TEACHER_MODEL_NOT_FOUND = register_reason(
    "TEACHER_MODEL_NOT_FOUND",
    "The teacher does not know the model (HTTP 404).",
    "Name a model that it serves, or set NESYCD_TEACHER_DEFAULT_MODEL; or mend NESYCD_TEACHER_UPSTREAM_URL.",
)
TEACHER_REJECTED_REQUEST = register_reason(
    "TEACHER_REJECTED_REQUEST",
    "The teacher rejected the request as invalid, for instance because it is longer than the model's context.",
    "Shorten the request or change its sampling; the error's metadata holds the provider's code, where it gave one.",
)


def public_error(error: UpstreamError, model: str, attempts: int) -> errors.NesycdError:
    """Returns what the caller is told of trouble at the teacher.

    Args:
        error: The last trouble.
        model: The model that was asked.
        attempts: How often the teacher was asked for this request.
    """
    metadata = {"model": model, "attempts": str(attempts)}
    if error.status:
        metadata["http_status"] = str(error.status)
    if error.code:
        metadata["provider_code"] = error.code
    said = f"The teacher gave no answer: {error}."
    match error.trouble:
        case Trouble.KEY:
            return errors.FailedPrecondition(
                f"{said} Set NESYCD_TEACHER_UPSTREAM_API_KEY to a valid key.",
                reason=TEACHER_KEY_REFUSED,
                subject="NESYCD_TEACHER_UPSTREAM_API_KEY",
                metadata=metadata,
            )
        case Trouble.MODEL:
            return errors.NotFound(
                f"{said} Name a model that it serves instead of {model!r}, or check NESYCD_TEACHER_UPSTREAM_URL.",
                reason=TEACHER_MODEL_NOT_FOUND,
                resource_type="teacher model",
                resource_name=model,
                metadata=metadata,
            )
        case Trouble.QUOTA:
            return errors.ResourceExhausted(
                f"{said} Top up the provider's account.",
                reason=TEACHER_QUOTA_EXHAUSTED,
                subject="teacher account",
                metadata=metadata,
            )
        case Trouble.REQUEST:
            return errors.InvalidArgument(
                f"{said} Check the length of the request and its sampling.",
                reason=TEACHER_REJECTED_REQUEST,
                metadata=metadata,
            )
        case Trouble.BROKEN:
            return errors.Aborted(
                f"{said} Check NESYCD_TEACHER_UPSTREAM_URL and NESYCD_TEACHER_BACKEND.",
                reason=TEACHER_BROKEN_RESPONSE,
                metadata=metadata,
            )
        case Trouble.RATE_LIMITED:
            return errors.ResourceExhausted(
                f"{said} Repeat the request later.",
                reason=TEACHER_RATE_LIMITED,
                subject="teacher rate",
                metadata=metadata,
                retry_after=error.retry_after or 30.0,
            )
        case Trouble.PROXY:
            return errors.Unavailable(
                f"{said} Check HTTPS_PROXY and NO_PROXY, and what the proxy allows, then repeat the request.",
                reason=TEACHER_UNAVAILABLE,
                metadata=metadata,
                retry_after=10.0,
            )
        case _:
            return errors.Unavailable(
                f"{said} Check NESYCD_TEACHER_UPSTREAM_URL, then repeat the request.",
                reason=TEACHER_UNAVAILABLE,
                metadata=metadata,
                retry_after=error.retry_after or 10.0,
            )
