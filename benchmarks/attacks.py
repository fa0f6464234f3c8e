"""A server under attack: nearly right requests, and what only somebody who means harm sends.

    python benchmarks/attacks.py [--quick] [--requests N] [--seed N]

Builds a small index, serves it by headwater-serve with a key, and sends mutated requests (mutations.py): none may be
answered with 5xx, and neither an error nor the log may hold what was sent. Then bodies of 60 MB with and without a
length, fields of 1 MB, deep JSON, floods of headers, names of files as names of indexes, senders that never finish, and
keys that are nearly right, whose refusal must take as long as that of others. Prints one JSON object; the exit code is
0 only when nothing falls short.
"""

import asyncio
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import httpx2
import torch
import typer
from measuring import conclude, described
from mutations import INDEX_NAMES, MARK_WORD, Request, mutated
from serving import Served, serving, write_index

KEY = "of-these-letters-a-key-is-made-0"
BEARER = {"Authorization": f"Bearer {KEY}"}
AT_ONCE = 8
BROKEN = (httpx2.WriteError, httpx2.ReadError, httpx2.RemoteProtocolError)
LARGEST_TAKEN = 1 << 20  # bytes of a body, as the server's default
LARGE = 60_000_000  # bytes
GROWTH = 50_000_000  # bytes that the server may hold more after large bodies
HEAD_SECONDS = 10.0  # that the server gives a request's head
KEY_RATIO = 1.2  # between the medians of refusing keys that are wrong early and late
FLOODS = ("10,000 headers", "a header of 1 MB")
WORST_KEPT = 10  # examples in the report


class Findings:
    """What was answered, and what should not have been."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.wrong: list[str] = []

    def note(self, request: Request, answer: httpx2.Response) -> None:
        self.statuses[answer.status_code] += 1
        told = answer.text + " ".join(answer.headers.values())
        if answer.status_code >= 500:
            self._add(f"{answer.status_code} for {_shown(request)}")
        elif answer.status_code >= 400 and MARK_WORD in told:
            self._add(f"{answer.status_code} tells what was sent: {_shown(request)}: {told[:200]}")

    def note_broken(self, request: Request, error: Exception) -> None:
        """Without an answer: right where the server closes a connection on which far too much is still coming."""
        self.statuses[0] += 1
        if len(request.content) <= LARGEST_TAKEN:
            self._add(f"no answer ({type(error).__name__}) for {_shown(request)}")

    def _add(self, sentence: str) -> None:
        if len(self.wrong) < WORST_KEPT:
            self.wrong.append(sentence)


def _shown(request: Request) -> str:
    return f"{request.method} {request.path[:100]} {request.headers.get('Content-Type', '')} {request.content[:400]!r}"


async def send_all(address: str, requests: Iterator[Request]) -> Findings:
    """By a few clients that take them in turn."""
    findings = Findings()

    async def one_client(client: httpx2.AsyncClient) -> None:
        for request in requests:
            headers = BEARER | request.headers
            try:
                found = await client.request(request.method, request.path, content=request.content, headers=headers)
            except BROKEN as error:
                findings.note_broken(request, error)
            else:
                findings.note(request, found)

    async with httpx2.AsyncClient(base_url=address, timeout=90) as client:
        await asyncio.gather(*(one_client(client) for _ in range(AT_ONCE)))
    return findings


def large_things(client: httpx2.Client, served: Served) -> dict[str, Any]:
    """The statuses of bodies, fields, depths and headers that are far too large, and the memory that they left."""
    before = served.resident_bytes
    as_json = {"Content-Type": "application/json"}
    bodies: dict[str, Any] = {
        "60 MB with its length": b"x" * LARGE,
        "60 MB in chunks": (b"x" * 1_000_000 for _ in range(LARGE // 1_000_000)),
        "1 MB field": json.dumps({"prompt": "", "response": "zq9 " * 262_000}).encode(),
        "field of 999 KB": json.dumps({"prompt": "", "response": "zq9 " * 249_000}).encode(),
        "deep JSON": b"[" * 1_000_000,
        "deep JSON in a field": b'{"prompt": "", "response": ' + b"[" * 500_000 + b"]" * 500_000 + b"}",
    }
    found: dict[str, Any] = {}
    for name, content in bodies.items():
        found[name] = _status(client, "POST", "/v1/attribute", content=content, headers=as_json)
    found[FLOODS[0]] = _status(client, "GET", "/livez", headers={f"X-{n}": "zq9" for n in range(10_000)})
    found[FLOODS[1]] = _status(client, "GET", "/livez", headers={"X-Large": "zq9" * 350_000})
    for name in INDEX_NAMES:
        body = json.dumps({"prompt": "", "response": "zq9", "index": name}).encode()
        status = _status(client, "POST", "/v1/attribute", content=body, headers=as_json)
        found["names of files"] = max(found.get("names of files", 0), status)
    found["bytes held afterwards"] = max(0, served.resident_bytes - before)
    return found


def _status(client: httpx2.Client, method: str, path: str, **sent: Any) -> int:
    """Of the answer; 0 when the connection was closed while much was still being sent, which refuses too."""
    try:
        return client.request(method, path, **sent).status_code
    except BROKEN:
        return 0


async def slow_senders(served: Served, count: int) -> dict[str, Any]:
    """Many who send half a head and then nothing; somebody else's request meanwhile, and when the last was closed."""
    held = [await asyncio.open_connection(served.host, served.port) for _ in range(count)]
    for _, writer in held:
        writer.write(b"POST /v1/attribute HTTP/1.1\r\nHost: localhost\r\nX-Slow: zq")
    began = time.monotonic()
    await asyncio.to_thread(served.get, "/livez")
    meanwhile = time.monotonic() - began
    try:
        async with asyncio.timeout(HEAD_SECONDS + 10):
            await asyncio.gather(*(reader.read() for reader, _ in held), return_exceptions=True)
    except TimeoutError:
        pass
    for _, writer in held:
        writer.close()
    return {"senders": count, "answer_meanwhile_s": round(meanwhile, 3), "closed_s": round(time.monotonic() - began, 1)}


def keys(client: httpx2.Client, rounds: int) -> dict[str, Any]:
    """Refusals of keys that differ in the first letter, in the last, and in length, in turns; medians in ms."""
    wrong = {"first": f"X{KEY[1:]}", "last": f"{KEY[:-1]}X", "shorter": KEY[:-1], "longer": f"{KEY}0"}
    took: dict[str, list[float]] = {name: [] for name in wrong}
    statuses = set()
    for _ in range(rounds):
        for name, key in wrong.items():
            began = time.perf_counter()
            answer = client.get("/v1/indexes", headers={"Authorization": f"Bearer {key}"})
            took[name].append(1000 * (time.perf_counter() - began))
            statuses.add(answer.status_code)
    medians = {name: round(statistics.median(times), 3) for name, times in took.items()}
    return {
        "statuses": sorted(statuses),
        "median_ms": medians,
        "last_to_first": round(medians["last"] / medians["first"], 3),
    }


def shortfalls(findings: Findings, large: dict[str, Any], slow: dict[str, Any], near: dict[str, Any]) -> list[str]:
    short = list(findings.wrong)
    for name, status in large.items():
        if name in FLOODS and status == 200:  # to read many headers is no harm
            continue
        if name != "bytes held afterwards" and not (status == 0 or 400 <= status < 500):
            short.append(f"{name}: answered {status}")
    if large["bytes held afterwards"] > GROWTH:
        short.append(f"large bodies left {large['bytes held afterwards']} bytes in memory, not {GROWTH}")
    if slow["closed_s"] > HEAD_SECONDS + 5 or slow["answer_meanwhile_s"] > 1:
        short.append(f"slow senders are not closed, or hold others up: {slow}")
    if near["statuses"] != [401]:
        short.append(f"wrong keys were answered {near['statuses']}")
    if not 1 / KEY_RATIO < near["last_to_first"] < KEY_RATIO:
        short.append(f"a key wrong in its last letter takes {near['last_to_first']} of one wrong in its first")
    return short


def main(
    quick: Annotated[bool, typer.Option("--quick", help="2,000 requests.")] = False,
    requests: Annotated[int | None, typer.Option(help="Mutated requests. [100000]")] = None,
    seed: Annotated[int, typer.Option(help="Of the mutations.")] = 0,
) -> None:
    """Attack a server, and say what it let happen."""
    count = requests or (2_000 if quick else 100_000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        index = write_index(folder, documents=60)
        (folder / "keys").write_text(KEY)
        with serving(index, "--threads", "1", "--api-keys-file", str(folder / "keys")) as served:
            address = f"http://{served.host}:{served.port}"
            with httpx2.Client(base_url=address, timeout=90, headers=BEARER) as client:
                body = {"prompt": "", "response": "def read", "top_k": 1}
                ids = [one["document_id"] for one in client.post("/v1/attribute", json=body).json()["data"]]
                findings = asyncio.run(send_all(address, islice(mutated(seed, ids), count)))
                large = large_things(client, served)
                slow = asyncio.run(slow_senders(served, 50 if quick else 500))
                near = keys(client, 100 if quick else 1000)
                alive = client.post("/v1/attribute", json=body).status_code
        logged = MARK_WORD in served.log.read_text("utf-8")
    falls_short = shortfalls(findings, large, slow, near)
    if logged:
        falls_short.append("the log holds what was sent")
    if alive != 200:
        falls_short.append(f"afterwards, a right question is answered {alive}")
    report = {
        **described(torch.device("cpu")),
        "seed": seed,
        "requests": sum(findings.statuses.values()),
        "statuses": {str(status): findings.statuses[status] for status in sorted(findings.statuses)},
        "large": large,
        "slow_senders": slow,
        "keys": near,
        "falls_short": falls_short,
    }
    conclude(report)


if __name__ == "__main__":
    typer.run(main)
