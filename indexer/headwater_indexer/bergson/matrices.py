"""The random matrices that bergson projects by: made again from a layer's name, since it stores none.

Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), keyed by the MD5 of the name and
counted by row and column, gives bits for signs, or pairs of numbers for Gaussians (Box and Muller).
"""

import hashlib
from typing import Literal

import numpy as np
from jaxtyping import Float32, UInt64

MatrixKind = Literal["rademacher", "normal"]
Scale = Literal["jl", "row_norm"]
Words = UInt64[np.ndarray, "rows counters 4"]
_MASK = np.uint64(0xFFFFFFFF)
_HALF_WORD = np.uint64(32)
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = 0x9E3779B9, 0xBB67AE85  # added to the key after each round
_ROUNDS = 10
_BITS, _NUMBERS = 128, 4  # that the four words of a counter give


def matrix(
    name: str, rows: int, columns: int, *, kind: MatrixKind, scale: Scale
) -> Float32[np.ndarray, "rows columns"]:
    """Of the projection of this name: LAYER/left or LAYER/right, and /seedN where there is one."""
    each = _BITS if kind == "rademacher" else _NUMBERS
    words = philox(_key(name), rows, -(-columns // each))
    made = (_signs(words) if kind == "rademacher" else _gaussians(words))[:, :columns]
    lengths = np.sqrt(rows) if scale == "jl" else np.linalg.norm(made, axis=1, keepdims=True)
    return np.ascontiguousarray(made / lengths, dtype=np.float32)


def _key(name: str) -> tuple[int, int]:
    digest = hashlib.md5(name.encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


def philox(key: tuple[int, int], rows: int, counters: int) -> Words:
    """The four words, of 32 bits each, for the counter (column, row, 0, 0)."""
    shape = rows, counters
    row, column = np.indices(shape, dtype=np.uint64)
    x = [column, row, np.zeros(shape, np.uint64), np.zeros(shape, np.uint64)]
    for turn in range(_ROUNDS):
        first, second = (np.uint64((part + turn * step) & 0xFFFFFFFF) for part, step in zip(key, _WEYL, strict=True))
        low, high = _MULTIPLIERS[0] * x[0], _MULTIPLIERS[1] * x[2]
        x = [(high >> _HALF_WORD) ^ x[1] ^ first, high & _MASK, (low >> _HALF_WORD) ^ x[3] ^ second, low & _MASK]
    return np.stack(x, axis=-1)


def _signs(words: Words) -> Float32[np.ndarray, "rows bits"]:
    bits = np.unpackbits(words.astype("<u4").view(np.uint8), axis=-1, bitorder="little")
    return 2 * bits.reshape(len(words), -1).astype(np.float32) - 1


def _gaussians(words: Words) -> Float32[np.ndarray, "rows numbers"]:
    uniform = words.astype(np.float32)
    lengths = np.sqrt(-2 * np.log((uniform[..., 0::2] + np.float32(0.5)) * np.float32(2**-32)))
    angles = np.float32(2 * np.pi) * (uniform[..., 1::2] * np.float32(2**-32))
    pairs = np.stack([lengths * np.cos(angles), lengths * np.sin(angles)], axis=-1)
    return pairs.reshape(len(words), -1)
