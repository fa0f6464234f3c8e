"""Exact search beside one plain product of the same rows; and over rows of few bits, whose bytes are fewer."""

import math
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import interleaved, median_ratio
from synthetic_rows import WIDTH

from headwater_indexer.coded_search import CodedSearch
from headwater_indexer.codes.coder import Coder
from headwater_indexer.search import FlatSearch, write_flat_index
from headwater_indexer.store.reader import RowReader
from headwater_indexer.store.shards import ShardStore

COUNTS = (1, 64)  # of queries together
ROUNDS = 9
CPU = torch.device("cpu")
BYTES = {"float16": None, "8 bits": WIDTH, "4 bits": WIDTH // 2, "2 bits": WIDTH // 4}  # of a code


def measure_flat(count: int) -> dict[str, Any]:
    """Times of one and 64 queries over so many float32 rows, and how they grow with rows and with columns."""
    draw = np.random.default_rng(0)
    rows = draw.standard_normal((count, WIDTH), dtype=np.float32)
    found: dict[str, Any] = {"rows": count, "columns": WIDTH}
    ratios: dict[str, float] = {}
    search = flat_search(rows)
    held = held_rows(search)
    for queries in COUNTS:
        asked = draw.standard_normal((queries, WIDTH), dtype=np.float32)
        passes: dict[str, Callable[[], Any]] = {
            "search": ask(search, asked),
            "plain product": partial(np.matmul, held, asked.T),
        }
        seconds = interleaved(passes, ROUNDS, CPU)
        ratio = 1 / median_ratio(seconds, "search", "plain product")
        found[f"{queries} queries"] = {
            **{f"{name}, ms": round(1e3 * statistics.median(taken), 2) for name, taken in seconds.items()},
            "ratio": round(ratio, 3),
        }
        ratios["exact over plain product"] = max(ratio, ratios.get("exact over plain product", 0))
    found["growth"] = growth(search, rows)
    ratios["growth of exact search"] = max(found["growth"].values())
    return {"found": found, "ratios": ratios}


def flat_search(rows: np.ndarray) -> FlatSearch:
    """Built and opened as an index is."""
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder) / "search.faiss", Path(folder) / "norms.safetensors"
        write_flat_index(*paths, np.array_split(rows, max(1, len(rows) // 1_000)), rows.shape[1])
        return FlatSearch.open(*paths)


def held_rows(search: FlatSearch) -> np.ndarray:
    """The very rows that are searched: two copies may lie in pages of another kind, which changes a pass's time."""
    flat = search._flat
    rows: np.ndarray = search._faiss.rev_swig_ptr(flat.get_xb(), len(search) * flat.d).reshape(len(search), flat.d)
    return rows


def ask(search: Any, queries: np.ndarray) -> Callable[[], Any]:
    return lambda: search(queries, top_k=10, score="relatif", sign="positive")


def growth(search: FlatSearch, rows: np.ndarray) -> dict[str, float]:
    """Exponents of a question's time in the number of rows and of columns: 1 is linear."""
    count, width = rows.shape
    part = flat_search(rows[: count // 4])
    narrow = flat_search(np.ascontiguousarray(rows[:, : width // 4]))
    asked = np.random.default_rng(1).standard_normal((1, width), dtype=np.float32)
    passes = {
        "all": ask(search, asked),
        "a quarter of the rows": ask(part, asked),
        "a quarter of the columns": ask(narrow, asked[:, : width // 4]),
    }
    seconds = {name: min(taken) for name, taken in interleaved(passes, ROUNDS, CPU).items()}
    return {
        "rows": round(math.log(seconds["all"] / seconds["a quarter of the rows"], 4), 3),
        "columns": round(math.log(seconds["all"] / seconds["a quarter of the columns"], 4), 3),
    }


def measure_codes(count: int) -> dict[str, Any]:
    """Milliseconds of one and of 64 queries over so many records of each kind, beside plain float32 rows."""
    draw = np.random.default_rng(0)
    rows = draw.standard_normal((count, WIDTH), dtype=np.float32)
    found: dict[str, Any] = {"rows": count}
    for name, code_bytes in BYTES.items():
        coder = Coder.make(width=WIDTH, columns=WIDTH, code_bytes=code_bytes, seed=0)
        search = CodedSearch(coder, stored(np.tile(coder.encode(rows[:64]), (-(-count // 64), 1))[:count]))
        found[name] = {"bytes": coder.bytes}
        for queries in COUNTS:
            asked = draw.standard_normal((queries, WIDTH), dtype=np.float32)
            passes: dict[str, Callable[[], Any]] = {
                "codes": ask(search, asked),
                "float32": partial(np.matmul, rows, asked.T),
            }
            seconds = interleaved(passes, 5, CPU)
            found[name][f"{queries} queries"] = {
                f"{which}, ms": round(1e3 * statistics.median(taken), 2) for which, taken in seconds.items()
            }
    return found


def stored(records: np.ndarray) -> RowReader:
    """In a file that is gone when nobody reads it any more."""
    with tempfile.TemporaryDirectory() as folder:
        store = ShardStore(Path(folder) / "rows", width=records.shape[1], dtype="uint8")
        store.append(records)
        return RowReader.open(store)
