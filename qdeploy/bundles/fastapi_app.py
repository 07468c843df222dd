"""Answers of the engine beside this file, over HTTP.

    pip install -r requirements.txt
    uvicorn app:app --host 0.0.0.0 --port 8000

POST /answer {"rows": [{"text": "..."}, {"text": "...", "text_pair": "..."}]} gives an answer for
each row; GET /health and GET /metrics (Prometheus) are for whoever looks after it. Requests that
wait at the same time run together. `qdeploy bundle` wrote this file; it needs no qdeploy.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from predict import Model  # the engine's own script
from pydantic import BaseModel, Field

MOST_ROWS = int(os.environ.get("BATCH_ROWS", "32"))  # that run together
MOST_WAITING = int(os.environ.get("WAITING_REQUESTS", "256"))  # more are refused with 503
THREADS = int(os.environ.get("THREADS", "0")) or None  # of the engine; every usable core by default
LONGEST = 1_000_000  # characters of a text


class Row(BaseModel):
    """A text, or a pair of texts."""

    text: str = Field(min_length=1, max_length=LONGEST)
    text_pair: str | None = Field(None, max_length=LONGEST)


class Request(BaseModel):
    """Rows of one request."""

    rows: list[Row] = Field(min_length=1, max_length=1024)


class Server:
    """One engine, and the requests that wait for it."""

    def __init__(self) -> None:
        self.model = Model(THREADS)
        self.waiting: asyncio.Queue[tuple[list[Any], asyncio.Future[Any]]] = asyncio.Queue(
            MOST_WAITING
        )
        self.requests = self.rows = self.batches = self.failures = 0
        self.seconds = 0.0

    async def answer(self, rows: list[Any]) -> list[Any]:
        """Answers to rows, in order; they may run beside those of other requests."""
        asked: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        try:
            self.waiting.put_nowait((rows, asked))
        except asyncio.QueueFull:
            raise HTTPException(503, "too many requests are waiting") from None
        return await asked

    async def work(self) -> None:
        """Run what waits, together."""
        while True:
            batch = [await self.waiting.get()]
            count = len(batch[0][0])
            while not self.waiting.empty() and count < MOST_ROWS:
                batch.append(self.waiting.get_nowait())
                count += len(batch[-1][0])
            await self.run(batch)

    async def run(self, batch: list[tuple[list[Any], asyncio.Future[Any]]]) -> None:
        """One batch; requests of a batch that fails run one by one, so that one fails alone."""
        rows = [row for given, _ in batch for row in given]
        began = time.perf_counter()
        try:
            found = await asyncio.to_thread(self.answers, rows)
        except Exception as error:
            if len(batch) > 1:
                for one in batch:
                    await self.run([one])
            elif not batch[0][1].done():
                batch[0][1].set_exception(error)
            return
        self.seconds += time.perf_counter() - began
        self.batches, self.rows = self.batches + 1, self.rows + len(rows)
        for given, asked in batch:
            own, found = found[: len(given)], found[len(given) :]
            if not asked.done():  # a client that left is not waited for
                asked.set_result(own)

    def answers(self, rows: list[Any]) -> list[Any]:
        """In a thread; what predict.py would say on a terminal becomes an error."""
        try:
            found: list[Any] = self.model.answers(rows)
            return found
        except SystemExit as error:
            raise ValueError(str(error)) from None


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """The engine is loaded here, so that each worker has its own."""
    app.state.server = Server()
    task = asyncio.create_task(app.state.server.work())
    yield
    task.cancel()


app = FastAPI(lifespan=lifespan)


@app.exception_handler(RequestValidationError)
async def refuse(_: Any, error: RequestValidationError) -> JSONResponse:
    """What is wrong with a request, without its texts: half a surrogate pair cannot be sent."""
    faults = [{name: fault[name] for name in ("type", "loc", "msg")} for fault in error.errors()]
    return JSONResponse({"detail": faults}, 422)


@app.post("/answer")
async def answer(request: Request) -> dict[str, Any]:
    """An answer for each row, in order."""
    server: Server = app.state.server
    server.requests += 1
    rows = [(r.text,) if r.text_pair is None else (r.text, r.text_pair) for r in request.rows]
    try:
        return {"answers": await server.answer(rows)}
    except ValueError as error:  # text that the model cannot take
        server.failures += 1
        raise HTTPException(422, str(error)) from error


@app.get("/health")
async def health() -> dict[str, str]:
    """Whether the engine is loaded."""
    return {"status": "ok"}


@app.get("/metrics")
async def metrics() -> Response:
    """Counters in Prometheus' text format."""
    server: Server = app.state.server
    values = {
        "qdeploy_requests_total": server.requests,
        "qdeploy_rows_total": server.rows,
        "qdeploy_batches_total": server.batches,
        "qdeploy_failures_total": server.failures,
        "qdeploy_engine_seconds_total": round(server.seconds, 6),
    }
    lines = [f"# TYPE {name} counter\n{name} {value}" for name, value in values.items()]
    lines.append(f"# TYPE qdeploy_waiting gauge\nqdeploy_waiting {server.waiting.qsize()}")
    return Response("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")
