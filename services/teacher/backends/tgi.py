"""text-generation-inference, through huggingface_hub's client."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from services.teacher.backends import OnText, Trouble, UpstreamError, from_status, read_completion
from services.teacher.settings import Settings
from services.teacher.types import Completion, Question, Sampling

if TYPE_CHECKING:
    from huggingface_hub import AsyncInferenceClient


class TgiBackend:
    """`AsyncInferenceClient.chat_completion` against {upstream_url}."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: AsyncInferenceClient | None = None
        # The hub's offline mode would also refuse the team's own endpoint; this process downloads nothing from a hub.
        # Read when huggingface_hub is imported, which happens at the first question.
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
            os.environ.pop(name, None)
        # Nor does it tell the hub anything: online, the client would ask it first which program this is.
        os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

    def _hub(self) -> AsyncInferenceClient:
        if self._client is None:
            from huggingface_hub import AsyncInferenceClient

            key = self._settings.upstream_api_key.get_secret_value()
            # Without a key of ours the client would send the hub's token that it finds on this machine.
            nobody: Any = {"authorization": None}
            self._client = AsyncInferenceClient(
                self._settings.upstream_url.rstrip("/"),
                provider="hf-inference",
                token=key or None,
                headers=None if key else nobody,
                timeout=self._settings.request_timeout_seconds,
            )
        return self._client

    async def complete(self, question: Question, sampling: Sampling, on_text: OnText | None = None) -> Completion:
        """See Backend.complete. Not in pieces."""
        from huggingface_hub.errors import HfHubHTTPError, InferenceTimeoutError

        response_format: Any = None
        if question.schema is not None:
            # The client turns this into TGI's own {"type": "json_object", "value": schema}.
            schema = {"name": question.schema_name or "answer", "schema": question.schema}
            response_format = {"type": "json_schema", "json_schema": schema}
        try:
            body: Any = await self._hub().chat_completion(
                [{"role": message.role, "content": message.content} for message in question.messages],
                model=question.model,
                temperature=sampling.temperature,
                # TGI refuses top_p = 1, which means the same as none.
                top_p=sampling.top_p if sampling.top_p < 1 else None,
                max_tokens=sampling.max_tokens,
                seed=sampling.seed,
                stop=list(sampling.stop) or None,
                response_format=response_format,
            )
        except InferenceTimeoutError:
            raise UpstreamError(Trouble.TIMEOUT, maybe_paid=True) from None
        except HfHubHTTPError as error:
            try:
                details = error.response.json()
            except ValueError:
                details = None
            raise from_status(error.response.status_code, error.response.headers.get("Retry-After"), details) from None
        except (ValueError, TypeError, AttributeError):
            raise UpstreamError(Trouble.BROKEN, maybe_paid=True) from None
        except Exception as error:
            # The client passes on its HTTP library's own exceptions; which library that is changes with its version.
            if type(error).__module__.split(".")[0] not in ("httpx", "httpx2", "httpcore", "httpcore2"):
                raise
            if type(error).__name__ == "ProxyError":
                raise UpstreamError(Trouble.PROXY) from None
            connected = type(error).__name__ not in ("ConnectError", "ConnectTimeout")
            raise UpstreamError(Trouble.TRANSPORT, maybe_paid=connected) from None
        return read_completion(_plain(body), question.model)

    async def close(self) -> None:
        """See Backend.close."""
        if self._client is not None:
            await self._client.close()


def _plain(body: Any) -> Any:
    """Returns the client's object as the JSON it was read from; its own dict view drops fields it does not know."""
    try:
        choices = [{"message": dict(choice.message), "finish_reason": choice.finish_reason} for choice in body.choices]
        return {"model": body.model, "choices": choices, "usage": dict(body.usage or {})}
    except (AttributeError, TypeError, ValueError):
        return None
