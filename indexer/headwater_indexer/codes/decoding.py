"""Trellis codes read word by word, by kernels of numba's."""

from functools import partial

import numpy as np
from jaxtyping import Float32, UInt8

from headwater_indexer.codes.cores import shared_by_cores

Codes = UInt8[np.ndarray, "rows bytes"]
Words = Float32[np.ndarray, "windows columns"]  # an even number of columns


def decode(words: Words, codes: Codes) -> Float32[np.ndarray, "rows steps*columns"]:
    """The words of each row's steps, one behind the other."""
    from headwater_indexer.codes.words_kernel import decode_by

    found = np.empty((len(codes), 2 * codes.shape[1] * words.shape[1]), dtype=np.float32)
    shared_by_cores(partial(decode_by(words.shape[1]), words), codes, found)
    return found


def multiply(words: Words, query: Float32[np.ndarray, "steps columns"], codes: Codes) -> Float32[np.ndarray, " rows"]:
    """The query's product with each row, which is never held as a whole; of words of a power of two of columns."""
    from headwater_indexer.codes.words_kernel import multiply_by

    found = np.empty(len(codes), dtype=np.float32)
    shared_by_cores(partial(multiply_by(words.shape[1]), words, query), codes, found)
    return found
