"""What the service's benchmarks ask: a real index of real text, and headwater-serve as a process of its own."""

import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from workloads import CHARACTERS, Family, make_model, mixed_lengths, write_corpus, write_tokenizer

from headwater_indexer.build import build_index
from headwater_indexer.options import BuildOptions

COMMAND = Path(sys.executable).parent / "headwater-serve"
LONGEST = 256  # tokens of a document; of a question half as many
READY_AFTER = 120.0  # seconds at most


@dataclass(frozen=True)
class Served:
    """A server that answers; `log` is what it has said."""

    host: str
    port: int
    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def resident_bytes(self) -> int:
        """Of the server's memory; Linux tells."""
        [kilobytes] = re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        return int(kilobytes) * 1024

    def forget_peak(self) -> None:
        """From here on `peak_bytes` is counted."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    @property
    def peak_bytes(self) -> int:
        """The most that was resident since `forget_peak`; Linux tells."""
        [kilobytes] = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        return int(kilobytes) * 1024

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://{self.host}:{self.port}{path}", timeout=30) as answer:
            text: str = answer.read().decode()
        return text


def write_index(folder: Path, *, documents: int, family: Family = "gpt2-small", factors: bool = True) -> Path:
    """A model with random weights, and Python's own sources for a corpus."""
    model, corpus = folder / "model", folder / "corpus.jsonl"
    make_model(family, torch.device("cpu")).save_pretrained(model)
    write_tokenizer(model)
    write_corpus(corpus, mixed_lengths(documents, LONGEST))
    options = BuildOptions(moment_tokens=16_384, factors=factors)
    build_index(str(model), str(corpus), folder / "index", options, device="cpu")
    return folder / "index"


def questions(corpus: Path, count: int) -> list[dict[str, str]]:
    """Pieces of mixed lengths out of the corpus, the first half the prompt."""
    text = "".join(json.loads(line)["text"] for line in corpus.read_text("utf-8").splitlines())
    asked, start = [], 0
    for length in mixed_lengths(count, LONGEST // 2):
        middle, stop = start + CHARACTERS * length // 2, start + CHARACTERS * length
        asked.append({"prompt": text[start:middle], "response": text[middle:stop]})
        start = (stop + 997) % (len(text) - CHARACTERS * LONGEST)
    return asked


@contextmanager
def serving(index: Path, *options: str) -> Iterator[Served]:
    """headwater-serve on a free port, once it is ready."""
    log = index.parent / "server.log"
    with log.open("wb") as said:
        command: Sequence[str] = [str(COMMAND), str(index), "--port", "0", "--device", "cpu", *options]
        process = subprocess.Popen(command, stderr=said, stdout=said)  # noqa: S603
    try:
        yield _wait_ready(process, log)
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_ready(process: "subprocess.Popen[bytes]", log: Path) -> Served:
    deadline = time.monotonic() + READY_AFTER
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"http://(127\.0\.0\.1):(\d+)", log.read_text("utf-8"))
        if found:
            served = Served(found[1], int(found[2]), process, log)
            try:
                served.get("/readyz")
            except urllib.error.URLError:  # 503 too
                time.sleep(0.05)
            else:
                return served
        else:
            time.sleep(0.05)
    raise RuntimeError(f"the server did not become ready: {log.read_text('utf-8')[-2000:]}")
