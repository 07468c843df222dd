"""Calls of qdeploy's functions in a process of its own, which a crash or a hang may take."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.torture.ground import CLEAR, HUNG, UNEXPECTED, WORKED, Ground

ERROR = "qdeploy.errors.QDeployError"


class Worker:
    """A `worker.py` that is started again when it dies or hangs."""

    def __init__(self, ground: Ground, **variables: str) -> None:
        self._ground, self._variables = ground, variables
        self._process: subprocess.Popen[bytes] | None = None

    def call(self, name: str, *arguments: Any, limit: float = 60.0) -> dict[str, Any]:
        """The reply to a call; {"hung"} or {"died": exit code} where none came."""
        process = self._process or self._start()
        return self._ask(process, name, arguments, limit)

    def _ask(
        self, process: subprocess.Popen[bytes], name: str, arguments: tuple[Any, ...], limit: float
    ) -> dict[str, Any]:
        assert process.stdin is not None and process.stdout is not None
        line = json.dumps([name, [_plain(a) for a in arguments]]) + "\n"
        try:
            process.stdin.write(line.encode())
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], limit)
            reply = process.stdout.readline() if ready else None
        except BrokenPipeError:
            reply = b""
        if reply:
            found: dict[str, Any] = json.loads(reply)
            return found
        if reply is None:
            self.close()
            return {"hung": limit}
        code = process.wait(30)
        self.close()
        return {"died": code}

    def _start(self) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("worker.py"))],
            env=self._ground.environment | self._variables,
            cwd=self._ground.home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        # Imports are no part of what the first call is judged by.
        self._ask(self._process, "answers", (self._ground.home / "engine",), 120.0)
        if self._process is None:
            raise AssertionError("a process that loads the engine does not live")
        return self._process

    def send(self, number: int) -> None:
        """Send its process a signal, where it has one."""
        if self._process is not None:
            self._process.send_signal(number)

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def replied(reply: dict[str, Any], *names: str) -> str:
    """The verdict of a worker's reply, its value not looked at.

    Args:
        names: words of which a clear error holds one.
    """
    if "hung" in reply:
        return HUNG
    if "value" in reply:
        return WORKED
    if ERROR in reply.get("classes", ()) and (
        not names or any(name in reply["text"] for name in names)
    ):
        return CLEAR
    return UNEXPECTED


def detail(reply: dict[str, Any]) -> str:
    """A reply in a line."""
    if "classes" not in reply:
        return str(reply)[-400:]
    return f"{reply['classes'][0]}: {reply['text']}"[:400]


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
