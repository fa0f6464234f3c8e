"""What builds of few and of many documents hold in memory at most, each in a process of its own."""

import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel
from workloads import write_corpus, write_tokenizer

CHILD = """
import sys, torch
from pathlib import Path
from headwater_indexer.build import build_index
from headwater_indexer.options import BuildOptions
torch.set_num_threads(2)
model, corpus, out = sys.argv[1:]
options = BuildOptions(rank=32, bits=4, plan="two-stage", max_length=64, moment_tokens=1 << 13)
build_index(model, corpus, Path(out), options, device="cpu")
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


def memory_of_builds(folder: Path, sizes: Sequence[int], *, rounds: int) -> dict[str, Any]:
    """Peak bytes by number of documents, and the largest build's over the smallest's. Both have several shards.

    The least of some rounds: what the C library keeps of freed memory lets builds of one corpus differ by a tenth.
    """
    model = folder / "model"
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=4096, n_layer=4, n_embd=128, n_head=4, n_positions=64, bos_token_id=0, eos_token_id=0
    )
    GPT2LMHeadModel(config).save_pretrained(model)
    write_tokenizer(model)
    peaks: dict[int, list[int]] = {size: [] for size in sizes}
    for _ in range(rounds):
        with ThreadPoolExecutor(len(sizes)) as pool:  # builds beside one another are slower, and not larger
            for size, found in zip(sizes, pool.map(partial(peak, folder, model), sizes), strict=True):
                peaks[size].append(found)
    least = {size: min(found) for size, found in peaks.items()}
    return {
        "ratios": {"memory of a larger build": least[sizes[-1]] / least[sizes[0]]},
        "found": {"peak_bytes": {str(size): found for size, found in peaks.items()}},
    }


def peak(folder: Path, model: Path, size: int) -> int:
    draw, corpus = random.Random(0), folder / f"{size}.jsonl"  # noqa: S311 - lengths of texts
    write_corpus(corpus, [draw.randint(12, 24) for _ in range(size)])
    with tempfile.TemporaryDirectory(dir=folder) as out:
        command = [sys.executable, "-c", CHILD, str(model), str(corpus), f"{out}/index"]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    return int(run.stdout.split()[-1]) * 1024
