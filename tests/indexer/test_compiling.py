"""Compiled kernels: kept for the next process where they can be, and nobody's trouble where they cannot."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODES = """
import numpy as np
from headwater_indexer.signs.counting_kernel import of_one
from headwater_indexer.compiling import compiled

def count(words):
    return of_one(words[1].ctypes.data, words[0].ctypes.data, 1)

kernel = compiled(count)
words = np.zeros((2, 8), np.uint64)
words[1, [0, 7]] = 7
assert kernel(words) == 6
print(sum(kernel.stats.cache_hits.values()), sum(kernel.stats.cache_misses.values()))
"""


def hits_and_misses(script: Path, limit: str) -> tuple[int, int]:
    """Of the cache, in a process that may write files of so many kilobytes."""
    command = ["bash", "-c", f'ulimit -f {limit}; exec "$@"', "bash", sys.executable, str(script)]
    kept = {**os.environ, "NUMBA_CACHE_DIR": str(script.parent / "kept"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=kept, timeout=120)
    assert done.returncode == 0, done.stderr
    hits, misses = map(int, done.stdout.split())
    return hits, misses


@pytest.mark.parametrize("limit", ["unlimited", pytest.param("1", marks=pytest.mark.slow)])
def test_a_kernel_is_kept_where_there_is_room(tmp_path: Path, limit: str) -> None:
    script = tmp_path / "codes.py"
    script.write_text(CODES)
    assert hits_and_misses(script, limit) == (0, 1)
    assert hits_and_misses(script, limit) == ((1, 0) if limit == "unlimited" else (0, 1))
