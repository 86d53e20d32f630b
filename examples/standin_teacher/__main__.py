"""Command line of the stand-in teacher: ``python -m examples.standin_teacher --port 8089 --log calls.jsonl``."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from aiohttp import web
from pydantic import ValidationError

from examples.standin_teacher.calls import CallLog
from examples.standin_teacher.faults import Faults
from examples.standin_teacher.server import StandIn
from examples.standin_teacher.teachers import ReplayTeacher, ScriptedTeacher, Teacher


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.standin_teacher",
        description="A stand-in for a teacher LLM, for the demo and the tests. Not part of the product.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8089, help="port; 0: any free one (default: %(default)s)")
    parser.add_argument("--mode", choices=("scripted", "replay"), default="scripted")
    parser.add_argument("--log", type=Path, required=True, help="JSON Lines file that every call is appended to")
    parser.add_argument(
        "--replay",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="recorded answers (question, teacher_response); may be given several times",
    )
    faults = parser.add_argument_group("faults")
    for name, field in Faults.model_fields.items():
        flag = f"--{name.replace('_', '-')}"
        text = (field.description or "").replace("%", "%%")
        if field.annotation is bool:
            faults.add_argument(flag, action="store_true", help=text)
        else:
            kind = {int: int, float: float}.get(field.annotation, str)  # type: ignore[arg-type]
            faults.add_argument(flag, type=kind, default=field.default, help=text)
    return parser


async def _serve(stand_in: StandIn, log: CallLog, host: str, port: int) -> None:
    # Calls in flight get a second: what waits longer is a latency that was asked for.
    runner = web.AppRunner(stand_in.application(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stopped.set)
    try:
        # asyncio binds "::" to IPv6 alone; None is IPv6 and IPv4, as "::" means elsewhere.
        await web.TCPSite(runner, None if host == "::" else host, port).start()
        address = runner.addresses[0]
        print(f"stand-in teacher: listening on http://{address[0]}:{address[1]}", file=sys.stderr, flush=True)
        await stopped.wait()
    finally:
        await runner.cleanup()
        log.close()


def main(arguments: list[str] | None = None) -> int:
    """Starts the stand-in and serves until SIGTERM or SIGINT.

    Returns:
        0 after a stop by signal, 2 where the options are wrong, 1 where the address is taken.
    """
    parser = _parser()
    options: dict[str, Any] = vars(parser.parse_args(arguments))
    # A key on the command line is seen by everybody on the machine; the environment is not.
    options["api_key"] = options["api_key"] or os.environ.get("NESYCD_STANDIN_API_KEY", "")
    try:
        faults = Faults(**{name: options[name] for name in Faults.model_fields})
        teacher: Teacher
        if options["mode"] == "replay":
            if not options["replay"]:
                parser.error("--mode replay needs --replay FILE")
            teacher = ReplayTeacher.from_files(options["replay"])
        else:
            teacher = ScriptedTeacher()
        log = CallLog(options["log"])
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        parser.error(f"--{str(first['loc'][0]).replace('_', '-')}: {first['msg']}")
    except (OSError, ValueError) as error:
        parser.error(str(error))
    try:
        asyncio.run(_serve(StandIn(teacher, faults, log, mode=options["mode"]), log, options["host"], options["port"]))
    except OSError as error:
        print(f"stand-in teacher: error: {error}. Choose another --port.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
