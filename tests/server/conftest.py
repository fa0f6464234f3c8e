"""A twin of an index over numpy rows, as slow or broken as a test wants it, and a real socket to ask through."""

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import numpy as np
import pytest
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from headwater_indexer.build import build_index
from headwater_indexer.errors import PairError
from headwater_indexer.index import Index
from headwater_indexer.options import BuildOptions
from headwater_server.app import create_app
from headwater_server.engine import Engine
from headwater_server.running import Server
from headwater_server.settings import Settings

WIDTH = 8


@dataclass(frozen=True)
class TwinPair:
    input_ids: tuple[int, ...]
    prompt_tokens: int
    response_tokens: int

    @property
    def counted_tokens(self) -> int:
        return self.response_tokens


class TwinDocuments:
    def __init__(self, count: int) -> None:
        self.all = [
            SimpleNamespace(
                id=f"doc/{n}", text=f"text of {n}", source=f"source {n % 3}", metadata={"n": n}, prompt=None
            )
            for n in range(count)
        ]

    def __len__(self) -> int:
        return len(self.all)

    def by_ordinal(self, ordinals: Sequence[int]) -> list[Any]:
        return [self.all[ordinal] for ordinal in ordinals]

    def by_id(self, document_id: str) -> Any:
        return next((document for document in self.all if document.id == document_id), None)


class TwinIndex:
    """Words are tokens; `before` runs in the model's thread before each batch and may sleep or raise."""

    def __init__(self, *, before: Callable[[Sequence[TwinPair]], None] = lambda _: None, documents: int = 40) -> None:
        self.before = before
        self.documents = TwinDocuments(documents)
        self.vectors = np.random.default_rng(0).standard_normal((documents, WIDTH)).astype(np.float32)
        self.norms = np.ones(documents, dtype=np.float32)
        self.batches: list[list[int]] = []  # the sizes in tokens of every batch that was computed
        self.closed = False
        self.checkpoint = SimpleNamespace(device=SimpleNamespace(type="twin"))
        self.can_rescore = self.keeps_hidden_states = self.takes_messages = False
        self.manifest = SimpleNamespace(
            version="sha256:" + "0" * 64,
            created=1_764_000_000,
            documents=documents,
            width=WIDTH,
            tokens=10 * documents,
            layers=["mlp"],
            model=SimpleNamespace(id="twin", name="twin", revision=None),
            projection=SimpleNamespace(kind="random", rank=2),
            hessian=SimpleNamespace(kind="raw", damping=0.1),
            windows=SimpleNamespace(max_length=1000),
            search=SimpleNamespace(candidates=None, recall_at_10=None, recall_at_100=None),
        )
        self.plan = SimpleNamespace(kind="exact", memory_bytes=0)

    def encode(self, prompt: str, response: str, *, span: Any = None) -> TwinPair:
        assert span is None
        before, after = prompt.split(), response.split()
        if not after:
            raise PairError("The response is empty", param="response", code="empty_response")
        ids = tuple(sum(map(ord, word)) for word in before + after)
        return TwinPair(ids, len(before), len(after))

    def rows(self, pairs: Sequence[TwinPair]) -> np.ndarray:
        self.before(pairs)
        self.batches.append([len(pair.input_ids) for pair in pairs])
        return np.stack(
            [np.random.default_rng(pair.input_ids).standard_normal(WIDTH, dtype=np.float32) for pair in pairs]
        )

    def search(self, rows: np.ndarray, *, top_k: int, score: str, sign: str, among: Any = None) -> list[list[Any]]:
        assert (score, among) == ("relatif", None)
        scores = rows @ self.vectors.T
        order = np.argsort(-scores if sign == "positive" else scores, axis=1)[:, :top_k]
        return [
            [SimpleNamespace(ordinal=int(n), score=float(row[n]), percentile=50.0) for n in found]
            for row, found in zip(scores, order, strict=True)
        ]

    def influences(self, rows: np.ndarray, among: Any = None) -> np.ndarray:
        return rows @ (self.vectors if among is None else self.vectors[among]).T

    def close(self) -> None:
        self.closed = True


@dataclass(frozen=True)
class Live:
    """A server on a real socket, run in a thread of this process."""

    engine: Engine
    client: httpx2.Client
    address: tuple[str, int]
    server: Server

    def ask(self, response: str = "some words", **fields: Any) -> httpx2.Response:
        return self.client.post("/attribute", json={"prompt": "", "response": response, "top_k": 3, **fields})


@contextlib.contextmanager
def run_live(openers: dict[str, Callable[[], Any]], settings: Settings, *, wait: bool = True) -> Iterator[Live]:
    engine = Engine(openers, settings)
    server = Server(create_app(engine, settings), engine, settings)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()[:2]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        with httpx2.Client(base_url=f"http://{address[0]}:{address[1]}", timeout=30.0) as client:
            until(lambda: server.started and (not wait or engine.state != "loading"))
            yield Live(engine, client, address, server)
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive(), "the server did not stop"


def until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.005)


@pytest.fixture
def twin() -> type[TwinIndex]:
    return TwinIndex


@pytest.fixture
def wait_until() -> Callable[..., None]:
    return until


@pytest.fixture
def live() -> Iterator[Callable[..., Live]]:
    """`live(index, **settings)`: serve an index on a real socket until the test ends."""
    with contextlib.ExitStack() as stack:

        def start(*indexes: Any, wait: bool = True, **settings: Any) -> Live:
            names = ["default", "second"]
            openers = {
                name: index if callable(index) else (lambda index=index: index)
                for name, index in zip(names, indexes, strict=False)
            }
            return stack.enter_context(run_live(openers, Settings(**settings), wait=wait))

        yield start


@pytest.fixture(scope="session")
def served() -> Callable[..., Any]:
    """`with served({"default": opener}, **settings) as server`: on a real socket, for as long as the caller wants."""
    return lambda openers, **settings: run_live(openers, Settings(**settings))


@pytest.fixture(scope="session")
def index_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real index, built by the real build: 60 short documents and a random GPT-2 of two layers."""
    folder = tmp_path_factory.mktemp("served")
    _write_model(folder / "model")
    with (folder / "corpus.jsonl").open("w") as corpus:
        for n, text in enumerate(RIVER_TEXTS):
            corpus.write(json.dumps({"id": f"river/{n}", "text": text, "source": f"book {n % 4}", "page": n}) + "\n")
    options = BuildOptions(rank=4, moment_tokens=4096, factors=True, embeddings=True)
    build_index(str(folder / "model"), str(folder / "corpus.jsonl"), folder / "rivers.index", options, device="cpu")
    return folder / "rivers.index"


@pytest.fixture(scope="session")
def real_live(index_folder: Path) -> Iterator[Live]:
    with run_live({"default": lambda: Index.open(index_folder, device="cpu")}, Settings()) as server:
        assert server.engine.failure is None, server.engine.failure
        yield server


@pytest.fixture(scope="session")
def upstream() -> Iterator[str]:
    """The address of scripted_upstream.py, in a process of its own."""
    script = Path(__file__).with_name("scripted_upstream.py")
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.kill()


_PARTS = [
    ["The river", "A stream", "The old canal"],
    ["feeds", "leaves", "floods"],
    ["the mill", "a lake", "the delta"],
]
RIVER_TEXTS = [
    f"{_PARTS[0][n % 3]} {_PARTS[1][n // 3 % 3]} {_PARTS[2][n // 9 % 3]} in year {1900 + n}, and {n} boats went by."
    for n in range(60)
]


def _write_model(folder: Path) -> None:
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(RIVER_TEXTS, vocab_size=400, special_tokens=["<|endoftext|>"])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer._tokenizer, eos_token="<|endoftext|>").save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=tokenizer.get_vocab_size(),
        n_positions=128,
        n_embd=32,
        n_layer=2,
        n_head=2,
        initializer_range=0.2,  # so that gradients are well above rounding
        bos_token_id=0,
        eos_token_id=0,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
