"""What a reader of the pages has: a model, the documents it learned from, an index of them, and a server."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from doc_reader import COMMANDS, Reader
from tokenizers import ByteLevelBPETokenizer
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from headwater_indexer.build import build_index
from headwater_indexer.options import BuildOptions

TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
THINGS = ["with statement", "for loop", "lambda", "decorator", "generator", "import system", "context manager", "class"]
USES = ["wrap the execution of a block", "go through a sequence", "name a function", "keep a value", "say what it is"]
MODELS = ("my-model", "PATH_OR_HUB_ID", "BASE_MODEL")


def texts() -> list[str]:
    return [f"The {thing} is used to {use}, as in example {n}." for n, (thing, use) in enumerate(_pairs())]


def _pairs() -> list[tuple[str, str]]:
    return [(thing, use) for thing in THINGS for use in USES] * 2


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`my-model`, `corpus.jsonl` and `my.index`, from which each page's folder is copied."""
    folder = tmp_path_factory.mktemp("shelf")
    with (folder / "corpus.jsonl").open("w") as corpus:
        for n, text in enumerate(texts()):
            record = {"id": f"doc-{n}", "text": text, "source": f"book {n % 4}", "year": 1960 + n}
            corpus.write(json.dumps(record) + "\n")
    _write_model(folder / "my-model")
    options = BuildOptions(bytes=512, factors=True, embeddings=True)
    build_index(str(folder / "my-model"), str(folder / "corpus.jsonl"), folder / "my.index", options, device="cpu")
    return folder


def _write_model(folder: Path) -> None:
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(texts(), vocab_size=400, special_tokens=["<|endoftext|>"])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer._tokenizer, eos_token="<|endoftext|>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    size = {"n_positions": 256, "n_embd": 32, "n_layer": 2, "n_head": 2}
    large = {"initializer_range": 0.2}  # so that gradients are well above rounding
    config = GPT2Config(vocab_size=tokenizer.get_vocab_size(), bos_token_id=0, eos_token_id=0, **size, **large)
    GPT2LMHeadModel(config).save_pretrained(folder)


@pytest.fixture(scope="session")
def address(shelf: Path) -> Iterator[str]:
    """Host and port of a server of `my.index`, for the pages that start none."""
    command = [COMMANDS / "headwater-serve", shelf / "my.index", "--port", "0"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    ) as server:
        assert server.stderr is not None
        log = iter(server.stderr.readline, "")
        found = next(match[1] for line in log if (match := re.search(r"http://(127\.0\.0\.1:\d+)", line)))
        next(line for line in log if "ready" in line)
        yield found
        server.terminate()
        server.communicate(timeout=60)


@pytest.fixture
def open_page(shelf: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Reader]]:
    """`open_page(empty=..., served=...)`: a reader with a model and documents, unless `empty` an index of them, and, if
    it is `served`, a server that is there already."""
    with ExitStack() as stack:

        def start(*, empty: bool, served: bool) -> Reader:
            for name in MODELS:
                shutil.copytree(shelf / "my-model", tmp_path / name)
            shutil.copy(shelf / "corpus.jsonl", tmp_path)
            if not empty:
                shutil.copytree(shelf / "my.index", tmp_path / "my.index")
            reader = Reader(tmp_path, request.getfixturevalue("address") if served else None)
            stack.callback(reader.leave)
            return reader

        yield start
