"""A machine that gdb runs: the server in the foreground, or beside a gdb that is started with it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path

from gdbvmx.gdbstart import LOAD_COMMAND, executable, symbol_options
from gdbvmx.remote import Server, ServerError

from .errors import CommandError, Status, say
from .session import Session, ending


def serve(session: Session, image: Path, address: tuple[str, int], *, freeze: bool) -> int:
    """Serves gdb until the machine ends or a client kills it, and returns the exit status."""

    async def serve_within_time() -> int:
        try:
            host, port = await server.listen()
        except ServerError as error:
            raise CommandError(str(error)) from error
        say(f"gdb: target remote {host}:{port}{' (the machine waits for it)' if freeze else ''}")
        async with asyncio.timeout(_seconds_left(session)):
            stop = await server.serve()
        return Status.OK if stop is None else ending(session.machine, stop) or Status.OK

    server = Server(session.machine, *address, freeze=freeze, executable=executable(image))
    try:
        return asyncio.run(serve_within_time())
    except TimeoutError:
        say(f"stopped at the time limit, after {session.machine.core.instructions()} instructions")
        return Status.LIMIT


def debug(session: Session, image: Path, gdb: str, gdb_options: Sequence[str]) -> int:
    """Starts `gdb` with the plugin, attached to the machine, and returns its exit status."""
    server = Server(session.machine, freeze=True, executable=executable(image))
    with server.serve_in_thread() as thread:
        host, port = thread.address
        # Extended: gdb stays connected when the machine ends, for a last look or another run.
        attach = ["-ex", LOAD_COMMAND, "-ex", f"target extended-remote {host}:{port}"]
        command = [gdb, "-q", *symbol_options(image), *attach, *gdb_options]
        # The plugin decodes 16- and 32-bit code by capstone, which is here and not where gdb's Python looks.
        environment = {**os.environ, "GDBVMX_SITE": sysconfig.get_path("platlib")}
        # Ctrl-C at the terminal is for gdb, which stops the machine.
        before = signal.signal(signal.SIGINT, lambda *_: None)
        try:
            ran = subprocess.run(command, check=False, env=environment, timeout=_seconds_left(session))
            status = ran.returncode
        except FileNotFoundError as error:
            raise CommandError(f"{gdb} is not installed (apt-get install gdb, or --with-gdb PATH)") from error
        except subprocess.TimeoutExpired:
            say(f"stopped at the time limit, after {session.machine.core.instructions()} instructions")
            return Status.LIMIT
        finally:
            signal.signal(signal.SIGINT, before)
    return status if status >= 0 else 128 - status


def refuse_instruction_limit(limit: int | None) -> None:
    if limit is not None:
        raise CommandError("--max-instructions ends a run that nobody debugs; with gdb there is --timeout")


def _seconds_left(session: Session) -> float | None:
    left = session.deadline - time.monotonic()
    return None if left == float("inf") else max(left, 0)
