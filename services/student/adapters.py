"""Which adapters are served, and under which aliases.

A version of an adapter lies at `<artifacts>/adapters/<id>/<version>/`: `adapter_model.safetensors`,
`adapter_config.json` and `manifest.json`:

    {"base_model": "smollm2-135m-instruct", "base_digest": "<see models.base_digest>", "run": "runs/...",
     "files": {"adapter_model.safetensors": "<sha256>", "adapter_config.json": "<sha256>"}}

What is loaded, and the aliases, are kept in the `Registry`, which all students of the base model share: each follows what
the others change, and has the weights of all that is registered.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec

from services.common import logs
from services.common.errors import (
    DataLoss,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NesycdError,
    NotFound,
    Unavailable,
)
from services.common.server import StartError
from services.student import reasons
from services.student.engines.base import UnsupportedAdapter, Weights
from services.student.registry import AdapterInfo, Alias, Registry, Retrieval, State

BASE = "base"
PRODUCTION = "aliases/production"
_WEIGHTS, _CONFIG = "adapter_model.safetensors", "adapter_config.json"
_ADAPTER_NAME = re.compile(r"adapters/([A-Za-z0-9][A-Za-z0-9._-]{0,99})@([A-Za-z0-9][A-Za-z0-9._-]{0,99})")
_ALIAS_NAME = re.compile(r"aliases/[A-Za-z0-9][A-Za-z0-9-]{0,62}")
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
_SOON_SECONDS, _LATER_SECONDS = 5.0, 60.0
"""Until a version that could not be loaded is tried again: where something is away, and where something is wrong."""
_log = logs.get_logger("student.adapters")

Prepare = Callable[[str, Mapping[str, Any], bytes], Weights]


@dataclass(frozen=True)
class Resolved:
    """What a reference to an adapter stands for at this moment; `weights` None is the base model."""

    name: str
    weights: Weights | None
    retrieval: Retrieval | None


class AdapterStore:
    """Reads adapters from an artifact store. Nothing but the two known files is ever opened."""

    def __init__(self, artifacts_url: str, base_digest: str, base_model: str = "") -> None:
        """Knows which base model its adapters must belong to.

        Args:
            artifacts_url: The artifact store.
            base_digest: The base model's digest; empty where its weights are not here.
            base_model: Its name, which must do without a digest.
        """
        self._url = artifacts_url.rstrip("/")
        self._base_digest = base_digest
        self._base_model = base_model

    def read(self, name: str) -> tuple[AdapterInfo, dict[str, Any], bytes]:
        """Reads and checks a version.

        Returns:
            Its manifest's facts, its config, and its weights as a safetensors file.

        Raises:
            InvalidArgument: The name is none.
            NotFound: The store has no such version.
            FailedPrecondition: It belongs to another base model, or is of another kind.
            DataLoss: A file is missing, or is not what the manifest says.
            Unavailable: The store cannot be read.
        """
        adapter, version = parse_adapter(name)
        place = f"adapters/{adapter}/{version}"
        raw = self._file(f"{place}/manifest.json")
        if raw is None:
            raise NotFound(
                f"{name} is not in the artifact store: {place}/manifest.json is missing",
                reason=reasons.ADAPTER_NOT_FOUND,
                resource_type="nesycd.dev/Adapter",
                resource_name=name,
            )
        manifest = _json_object(raw, name, "manifest.json")
        files = manifest.get("files")
        if not isinstance(files, dict) or not all(isinstance(value, str) for value in files.values()):
            raise _damaged(name, "its manifest.json does not list its files")
        if any(file.endswith(_PICKLES) for file in files) or not {_WEIGHTS, _CONFIG} <= files.keys():
            raise FailedPrecondition(
                f"{name} is not served: it must consist of {_WEIGHTS} and {_CONFIG} (pickled weights are never opened)",
                reason=reasons.ADAPTER_UNSUPPORTED,
                subject=name,
            )
        served = self._base_digest or self._base_model
        if manifest.get("base_digest" if self._base_digest else "base_model") != served:
            raise FailedPrecondition(
                f"{name} was trained on another base model ({str(manifest.get('base_model'))[:100]!r}, "
                f"digest {str(manifest.get('base_digest'))[:12]}) than is served ({f'digest {served[:12]}' if self._base_digest else repr(served)})",
                reason=reasons.ADAPTER_BASE_MISMATCH,
                subject=name,
            )
        contents = {}
        for file in (_WEIGHTS, _CONFIG):
            content = self._file(f"{place}/{file}")
            if content is None:
                raise _damaged(name, f"its {file} is missing")
            if hashlib.sha256(content).hexdigest() != files[file]:
                raise _damaged(name, f"its {file} has another SHA-256 than its manifest says")
            contents[file] = content
        info = AdapterInfo(
            name=name,
            base_model=str(manifest.get("base_model", "")),
            run=str(manifest.get("run", "")),
            sha256=files[_WEIGHTS],
            load_time=datetime.now(UTC).isoformat(),
        )
        return info, _json_object(contents[_CONFIG], name, _CONFIG), contents[_WEIGHTS]

    def _file(self, path: str) -> bytes | None:
        """A file's contents; None where it is not there."""
        if not self._url:
            raise FailedPrecondition(
                "the student has no artifact store: set NESYCD_STUDENT_ARTIFACTS_URL", subject="artifacts_url"
            )
        try:
            files, full = fsspec.url_to_fs(f"{self._url}/{path}")
            return files.cat_file(full)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except Exception as error:  # each store's library has errors of its own
            raise Unavailable(
                f"the artifact store cannot be read at {path} ({type(error).__name__})",
                reason=reasons.ARTIFACTS_UNAVAILABLE,
                retry_after=5.0,
            ) from error


@dataclass(frozen=True)
class _Held:
    """Weights that are here; `sha256` is what the registry said when they were loaded."""

    sha256: str
    weights: Weights


@dataclass(frozen=True)
class _Failure:
    """Why weights are not here, and when it is tried again."""

    sha256: str
    error: NesycdError
    again: float


class Adapters:
    """The versions that are loaded, and the aliases: those of the registry, as this student knows them."""

    def __init__(
        self,
        store: AdapterStore,
        prepare: Prepare,
        registry: Registry,
        release: Callable[[Weights], None] | None = None,
    ) -> None:
        """Call `restore` before anything else.

        Args:
            store: Where versions come from.
            prepare: The engine's. Called in a thread.
            registry: What all students serve.
            release: Told of what `prepare` gave and is needed no more, in a thread; None: nobody must know.
        """
        self._store = store
        self._prepare = prepare
        self._registry = registry
        self._release = release
        self._state = State()
        self._held: dict[str, _Held] = {}
        self._failures: dict[str, _Failure] = {}
        self._reading: dict[str, asyncio.Task[tuple[AdapterInfo, Weights]]] = {}
        self._taking: dict[str, asyncio.Task[None]] = {}
        self._changing = asyncio.Lock()
        self._read_at = 0.0

    # --- following the registry -------------------------------------------------------------------

    async def restore(self, old_state: Path) -> None:
        """Loads what is registered; waits while the artifact store, or the server that writes, cannot be reached.

        A version that cannot be loaded for another reason is logged and left out; it is tried again now and then.

        Args:
            old_state: Where a student of an earlier version kept its state for itself.

        Raises:
            StartError: The registry cannot be read.
        """
        try:
            await asyncio.to_thread(self._registry.take_up, old_state)
            await asyncio.to_thread(self._registry.check)
            await self.refresh()
        except NesycdError as error:
            raise StartError(error.message) from error
        while True:
            await asyncio.gather(*self._taking.values())
            if not any(isinstance(failure.error, Unavailable) for failure in self._failures.values()):
                return
            await asyncio.sleep(_SOON_SECONDS)
            with suppress(Unavailable):
                await self.refresh()

    async def follow(self, seconds: float) -> None:
        """Looks for what other students changed, until it is cancelled.

        Args:
            seconds: How often.
        """
        blind = False
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.refresh()
                blind = False
            except NesycdError as error:
                if not blind:  # what is known is served on
                    _log.error("changes of other students are not seen", reason=error.reason, detail=error.message)
                blind = True

    async def refresh(self) -> None:
        """Follows what the registry says at a moment after this call.

        Raises:
            DataLoss, Unavailable: It cannot be read.
        """
        asked = time.monotonic()
        async with self._changing:
            if self._read_at > asked:  # for another caller, while this one waited
                return
            began = time.monotonic()
            await self._apply(await asyncio.to_thread(self._registry.newest))
            self._read_at = began

    async def _change(self, change: Callable[[State], State], held: Mapping[str, _Held] | None = None) -> None:
        """Changes the state for all students.

        Args:
            change: Makes the new state of the newest one; called again where another student was faster.
            held: Weights that the new state needs.

        Raises:
            NesycdError: What `change` raises; or the registry cannot be read or written.
        """
        async with self._changing:
            while True:
                before = await asyncio.to_thread(self._registry.newest)
                after = change(before)
                if after == before or await asyncio.to_thread(self._registry.replace, before, after):
                    break
            self._held.update(held or {})
            await self._apply(after if after == before else replace(after, number=before.number + 1))

    async def _apply(self, state: State) -> None:
        """Serves a state from now on: lets go of what is unloaded, begins to load what is missing."""
        self._state = state
        registered = {name: info.sha256 for name, info in state.adapters.items()}
        self._failures = {k: failure for k, failure in self._failures.items() if registered.get(k) == failure.sha256}
        gone = [self._held.pop(name) for name in self._held.keys() - state.adapters.keys()]
        self._take_missing()
        for held in gone:
            await self._let_go(held.weights)

    def _take_missing(self) -> None:
        now = time.monotonic()
        for info in self._state.adapters.values():
            failure = self._failures.get(info.name)
            if not self._is_held(info) and info.name not in self._taking and (failure is None or failure.again <= now):
                task = asyncio.create_task(self._take(info))
                self._taking[info.name] = task
                task.add_done_callback(lambda _, name=info.name: self._taking.pop(name))

    async def _take(self, info: AdapterInfo) -> None:
        """Loads a registered version."""
        try:
            read, weights = await self._read_once(info.name)
            if read.sha256 != info.sha256:
                raise _damaged(info.name, "its weights are not those that were loaded")
        except Exception as error:
            self._failed(info, error)
            return
        if info.name in self._state.adapters:
            self._held[info.name] = _Held(info.sha256, weights)
            self._failures.pop(info.name, None)
        else:
            await self._let_go(weights)

    def _failed(self, info: AdapterInfo, error: Exception) -> None:
        known = error if isinstance(error, NesycdError) else Internal("the version could not be loaded; see the log")
        before = self._failures.get(info.name)
        if before is None or before.error.message != known.message:
            more = {} if known is error else logs.describe_exception(error)
            _log.error("adapter not loaded", adapter=info.name, reason=known.reason, detail=known.message, **more)
        wait = _SOON_SECONDS if isinstance(known, Unavailable) else _LATER_SECONDS
        self._failures[info.name] = _Failure(info.sha256, known, time.monotonic() + wait)

    async def _read_once(self, name: str) -> tuple[AdapterInfo, Weights]:
        """Reads a version, together with all who want it at the time."""
        reading = self._reading.get(name)
        if reading is None:
            reading = asyncio.create_task(asyncio.to_thread(self._read, name))
            self._reading[name] = reading

            def done(task: asyncio.Task[tuple[AdapterInfo, Weights]]) -> None:
                self._reading.pop(name)
                _ = task.cancelled() or task.exception()  # all who wanted it may have gone

            reading.add_done_callback(done)
        return await asyncio.shield(reading)

    def _read(self, name: str) -> tuple[AdapterInfo, Weights]:
        info, config, tensors = self._store.read(name)
        try:
            return info, self._prepare(name, config, tensors)
        except UnsupportedAdapter as error:
            raise FailedPrecondition(
                f"{name} cannot be served: {error}", reason=reasons.ADAPTER_UNSUPPORTED, subject=name
            ) from error

    async def _let_go(self, weights: Weights) -> None:
        if self._release is not None:
            await asyncio.to_thread(self._release, weights)

    def _is_held(self, info: AdapterInfo) -> bool:
        held = self._held.get(info.name)
        return held is not None and held.sha256 == info.sha256

    # --- what callers want ------------------------------------------------------------------------

    async def load(self, name: str) -> AdapterInfo:
        """Loads a version, for all students; one that is loaded stays as it is.

        Raises:
            NesycdError: As `AdapterStore.read`; or the registry cannot be read or written.
        """
        parse_adapter(name)
        await self.refresh()
        info = self._state.adapters.get(name)
        if info is not None and self._is_held(info):
            return info
        info, weights = await self._read_once(name)

        def register(state: State) -> State:
            known = state.adapters.get(name)
            if known is not None and known.sha256 == info.sha256:
                return state
            return replace(state, adapters={**state.adapters, name: info})

        self._failures.pop(name, None)
        await self._change(register, {name: _Held(info.sha256, weights)})
        return self._state.adapters.get(name, info)

    async def unload(self, name: str) -> None:
        """Forgets a version, for all students.

        Raises:
            NotFound: It is not loaded.
            FailedPrecondition: An alias stands for it.
        """
        parse_adapter(name)

        def remove(state: State) -> State:
            if name not in state.adapters:
                raise NotFound(
                    f"{name} is not loaded",
                    reason=reasons.ADAPTER_NOT_LOADED,
                    resource_type="nesycd.dev/Adapter",
                    resource_name=name,
                )
            users = sorted(alias.name for alias in state.aliases.values() if alias.adapter == name)
            if users:
                raise FailedPrecondition(
                    f"{name} stays loaded: {', '.join(users)} stands for it",
                    reason=reasons.ADAPTER_IN_USE,
                    subject=users[0],
                )
            return replace(state, adapters={key: info for key, info in state.adapters.items() if key != name})

        await self._change(remove)

    async def set_alias(self, alias: Alias) -> Alias:
        """Makes a name stand for a loaded version from now on; an empty adapter removes the name.

        Raises:
            InvalidArgument: A name is none.
            NotFound: The alias to be removed is not there.
            FailedPrecondition: The version is not loaded.
        """
        if not _ALIAS_NAME.fullmatch(alias.name):
            raise InvalidArgument(
                "alias.name must be aliases/{alias}: letters, digits and hyphens, at most 63", field="alias.name"
            )
        if alias.adapter:
            parse_adapter(alias.adapter, "alias.adapter")
            await self._weights(alias.adapter)

        def point(state: State) -> State:
            aliases = dict(state.aliases)
            if alias.adapter:
                if alias.adapter not in state.adapters:
                    raise _not_loaded(alias.adapter)
                aliases[alias.name] = alias
            elif aliases.pop(alias.name, None) is None:
                raise _no_alias(alias.name)
            return replace(state, aliases=aliases)

        await self._change(point)
        return alias

    def loaded(self) -> list[AdapterInfo]:
        """The loaded versions, by name; without those that could not be loaded here."""
        return [info for name, info in sorted(self._state.adapters.items()) if name not in self._failures]

    def aliases(self) -> list[Alias]:
        """All aliases, by name."""
        return [alias for _, alias in sorted(self._state.aliases.items())]

    async def resolve(self, reference: str) -> Resolved:
        """What a request's `adapter` field stands for now. A name that is not known may be new: the registry is asked.

        Raises:
            InvalidArgument: It is no name.
            NotFound: No such alias.
            FailedPrecondition: The version is not loaded.
            Unavailable: The registry, or the version's files, cannot be read now.
        """
        if not reference:
            reference = PRODUCTION if PRODUCTION in self._state.aliases else BASE
        if reference == BASE:
            return Resolved(BASE, None, None)
        name, retrieval = reference, None
        if reference.startswith("aliases/"):
            if reference not in self._state.aliases:
                await self.refresh()
            alias = self._state.aliases.get(reference)
            if alias is None:
                raise _no_alias(reference)
            name, retrieval = alias.adapter, alias.retrieval
        return Resolved(name, await self._weights(name), retrieval)

    async def _weights(self, name: str) -> Weights:
        """The weights of a registered version, once they are here."""
        parse_adapter(name)
        if name not in self._state.adapters:
            await self.refresh()
        info = self._state.adapters.get(name)
        if info is not None and not self._is_held(info) and (taking := self._taking.get(name)) is not None:
            await asyncio.shield(taking)
            info = self._state.adapters.get(name)
        if info is not None and self._is_held(info):
            return self._held[name].weights
        failure = self._failures.get(name)
        if failure is not None and isinstance(failure.error, Unavailable):
            raise failure.error.with_traceback(None)
        raise _not_loaded(name)


def parse_adapter(name: str, field: str = "adapter") -> tuple[str, str]:
    """Id and version of an adapter's name, both safe as a path component.

    Raises:
        InvalidArgument: It is no adapter's name.
    """
    match = _ADAPTER_NAME.fullmatch(name)
    if match is None:
        raise InvalidArgument(
            f"{field} must be adapters/{{adapter}}@{{version}}, both of letters, digits, '.', '_' and '-'", field=field
        )
    return match[1], match[2]


def merge(wanted: Retrieval | None, default: Retrieval | None) -> Retrieval | None:
    """What to read: what the request says, with the alias's values where it says nothing. None: read nothing."""
    if wanted is None or default is None or wanted.disabled or wanted.knowledge_base:
        merged = default if wanted is None else wanted
    else:
        said = {key: value for key, value in asdict(wanted).items() if value}
        merged = replace(default, **said)
    return merged if merged and merged.knowledge_base and not merged.disabled else None


def _json_object(raw: bytes, name: str, file: str) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise _damaged(name, f"its {file} is not a JSON object")
    return value


def _damaged(name: str, what: str) -> DataLoss:
    return DataLoss(
        f"{name} is damaged: {what}; publish it again", reason=reasons.ADAPTER_DAMAGED, metadata={"adapter": name}
    )


def _not_loaded(name: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"{name} is not loaded; call LoadAdapter first", reason=reasons.ADAPTER_NOT_LOADED, subject=name
    )


def _no_alias(name: str) -> NotFound:
    return NotFound(
        f"there is no alias {name[:80]}; ListAdapters shows all",
        reason=reasons.ALIAS_NOT_FOUND,
        resource_type="nesycd.dev/Alias",
        resource_name=name[:80],
    )
