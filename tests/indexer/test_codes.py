"""Rows of few bits: what they cost, what they keep, and that their scores are what they say."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from headwater_indexer.coded_search import CodedSearch
from headwater_indexer.codes.budget import plan_rows, width_at
from headwater_indexer.codes.coder import HEADER_BYTES, Coder
from headwater_indexer.codes.levels import best_levels
from headwater_indexer.codes.trellis import TrellisCodes
from headwater_indexer.codes.words import CHOICES, POSITIVE, WINDOWS, first_half, second_half, windows
from headwater_indexer.errors import DataError, UsageError
from headwater_indexer.layers import Layer
from headwater_indexer.search import ScoreKind, Sign
from headwater_indexer.store.shards import ShardStore

COUNT, WIDTH = 200, 1500
LAYERS = [Layer(name="up", in_dim=512, out_dim=2048), Layer(name="down", in_dim=2048, out_dim=512)]


def whitened_rows(count: int = COUNT, seed: int = 0) -> np.ndarray:
    """Columns of one variance with somewhat heavy tails, rows of very different lengths, one of them zero."""
    draw = np.random.default_rng(seed)
    rows = draw.standard_t(10, (count, WIDTH)) * draw.pareto(1.5, (count, 1))
    rows[17] = 0
    return rows.astype(np.float32)


def coder_of(in_byte: float | None, columns: int = WIDTH, seed: int = 0) -> Coder:
    """A coder that puts so many columns in a byte; None for float16."""
    code_bytes = None if in_byte is None else math.ceil(columns / in_byte)
    return Coder.make(width=WIDTH, columns=columns, code_bytes=code_bytes, seed=seed)


def estimates(coder: Coder, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return coder.scorer(queries)(coder.encode(rows)).astype(np.float64)


# Of the squared length of a row, the share kept by so many columns in a byte: for a Gaussian, 1 - 2^-2R at most.
@pytest.mark.parametrize(
    ("in_byte", "kept"),
    [(None, 0.9999), (1, 0.998), (2, 0.98), (4, 0.91), (5.3, 0.84), (8, 0.69), (16, 0.45), (48, 0.18), (125, 0.065)],
)
def test_codes_keep_what_their_bits_can(in_byte: float | None, kept: float) -> None:
    rows = np.delete(whitened_rows(), 17, axis=0)
    coder = coder_of(in_byte)
    # <v, c s> = ||v||^2 by construction, so the length of c s tells how much of v the codes point at.
    along = estimates(coder, rows, rows).diagonal()
    assert np.allclose(along, np.square(rows.astype(np.float64)).sum(1), rtol=1e-3)
    basis = np.eye(WIDTH, dtype=np.float32)
    decoded = estimates(coder, basis, rows[:40]).T
    share = np.square(rows[:40].astype(np.float64)).sum(1) / np.square(decoded).sum(1)
    assert share.mean() > kept
    if in_byte is not None:
        assert share.mean() < 1 - 2 ** (-16 / in_byte) + 0.03  # heavy tails allow a little more than a Gaussian does


@pytest.mark.parametrize("in_byte", [None, 1, 2, 8, 16, 100])
def test_scores_are_unbiased(in_byte: float | None) -> None:
    """Over many column orders the mean estimate of <q, v> is <q, v>, in size and not only in rank."""
    draw = np.random.default_rng(1)
    rows = np.delete(whitened_rows(60), 17, axis=0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    queries = rows[:20] + 0.5 * draw.standard_normal((20, WIDTH)).astype(np.float32) / WIDTH**0.5
    exact = queries.astype(np.float64) @ rows.T
    found = np.mean(
        [
            coder_of(in_byte, columns=1400, seed=seed).scorer(queries)(
                coder_of(in_byte, columns=1400, seed=seed).encode(rows)
            )
            for seed in range(8)
        ],
        axis=0,
    )
    slope = float((found * exact).sum() / (exact * exact).sum())
    assert slope == pytest.approx(1, abs=0.02)
    assert abs((found - exact).mean()) < 0.002


@pytest.mark.parametrize("in_byte", [None, 1, 2, 3, 8, 77])
def test_looking_up_is_decoding(in_byte: float | None) -> None:
    """The tables' scores against the plain product with the decoded rows, for one query and for many."""
    coder, rows = coder_of(in_byte, columns=1301), whitened_rows(50)
    decoded = estimates(coder, np.eye(WIDTH, dtype=np.float32), rows).T
    for count in (1, 70):
        queries = np.random.default_rng(2).standard_normal((count, WIDTH)).astype(np.float32)
        expected = queries @ decoded.T
        assert np.allclose(estimates(coder, queries, rows), expected, atol=1e-5 * np.abs(expected).max())


def test_records_are_read_by_another_process_alike(tmp_path: Path) -> None:
    coder, rows = coder_of(16), whitened_rows(20)
    coder.save(tmp_path / "codes.safetensors")
    loaded = Coder.load(tmp_path / "codes.safetensors")
    assert loaded.bytes == coder.bytes == HEADER_BYTES + 94
    assert np.array_equal(loaded.encode(rows), coder.encode(rows))


def test_levels_are_the_same_every_time() -> None:
    first = best_levels(16)
    best_levels.cache_clear()
    assert torch.equal(first, best_levels(16))


def named_words(codes: TrellisCodes) -> torch.Tensor:
    """All words of a trellis, one by one: the columns of both halves in turns, with a sign."""
    halves, named = codes.tensors()["halves"], torch.arange(WINDOWS)
    words = torch.stack([halves[0, first_half(named)], halves[1, second_half(named)]], 2).flatten(1)
    return torch.where(named < POSITIVE, 1, -1)[:, None] * words


@pytest.mark.parametrize("numba", [True, False])
def test_a_path_through_the_trellis_is_the_best_of_all(monkeypatch: pytest.MonkeyPatch, numba: bool) -> None:
    """Three bytes of seventeen columns, against all 16 million codes of them, word by word as their bits say."""
    monkeypatch.setattr("headwater_indexer.compiling.has_numba", lambda: numba)
    order, rows = torch.arange(17), torch.from_numpy(whitened_rows(20)[:6, :17] / 3)
    codes = TrellisCodes.make(order, 17, 3, seed=0)
    book = named_words(codes)
    lengths = [3, 3, 3, 3, 3, 2]  # 17 columns over 6 steps
    starts = np.cumsum([0, *lengths])
    for row, found in zip(rows, codes.encode(rows)[0], strict=True):
        best = torch.zeros(1)  # over all paths: the least distance of each history so far, none of them dropped
        for step, length in enumerate(lengths):
            words = torch.arange(len(best) * CHOICES) % WINDOWS
            missed = (row[starts[step] : starts[step + 1]] - book[:, :length]).square().sum(1)
            best = best.repeat_interleave(CHOICES) + missed[words]
        named = int.from_bytes(bytes(found.tolist()), "big")
        assert float(best[named]) == pytest.approx(float(best.min()), rel=1e-5)


@pytest.mark.parametrize("columns", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [1, 2, 200])
def test_the_compiled_search_for_a_path_is_as_good_as_the_plain_one(
    monkeypatch: pytest.MonkeyPatch, columns: int, size: int
) -> None:
    width = 2 * size * columns + size
    rows = torch.randn(9, width, generator=torch.Generator().manual_seed(size))
    codes = TrellisCodes.make(torch.randperm(width), width, size, seed=0)
    missed = []
    for numba in (True, False):
        monkeypatch.setattr("headwater_indexer.compiling.has_numba", lambda numba=numba: numba)
        named, along = codes.encode(rows)
        spelt = codes.decode(named)
        assert torch.allclose(along.float(), (spelt * rows).sum(1), rtol=1e-4)
        missed.append((rows - spelt).square().sum(1))
    assert torch.allclose(*missed, rtol=1e-5)


def test_a_word_is_named_by_the_last_fourteen_bits() -> None:
    assert windows(np.array([[0x12, 0x34, 0x56]], dtype=np.uint8)).tolist() == [
        [0x001, 0x012, 0x123, 0x1234, 0x2345, 0x3456]
    ]


def test_halves_are_named_by_their_bits() -> None:
    assert first_half(torch.tensor([0b10110_1100_1001])).tolist() == [0b10110_1001]
    assert second_half(torch.tensor([0b10110_1100_1001])).tolist() == [0b1_1100_1001]


def test_a_row_that_is_not_finite_is_refused() -> None:
    rows = whitened_rows()
    rows[50, 3] = np.nan
    with pytest.raises(DataError, match="row 50 is not finite"):
        coder_of(8).encode(rows)


@pytest.fixture
def search(tmp_path: Path) -> CodedSearch:
    coder = coder_of(16)
    store = ShardStore(tmp_path / "rows", width=coder.bytes, dtype="uint8")
    for part in np.array_split(whitened_rows(), 3):
        store.append(coder.encode(part))
    return CodedSearch.open(coder, store)


@pytest.mark.parametrize("score", ["relatif", "influence", "cosine"])
@pytest.mark.parametrize("sign", ["positive", "negative"])
@pytest.mark.parametrize("among", [None, [3, 190, 17, 80, 81, 150]])
def test_search_ranks_as_brute_force_over_what_is_stored(
    search: CodedSearch, score: ScoreKind, sign: Sign, among: list[int] | None
) -> None:
    queries = np.random.default_rng(1).standard_normal((3, WIDTH)).astype(np.float32)
    ordinals = np.arange(COUNT) if among is None else np.array(among)
    expected = estimates(coder_of(16), queries, whitened_rows())
    norms = np.linalg.norm(whitened_rows().astype(np.float64), axis=1)
    if score != "influence":
        expected /= np.where(norms > 0, norms, 1)
    if score == "cosine":
        expected /= np.linalg.norm(queries, axis=1, keepdims=True)
    found = search(queries, top_k=5, score=score, sign=sign, among=None if among is None else ordinals)
    for hits, scores in zip(found, expected[:, ordinals], strict=True):
        order = np.argsort(-scores if sign == "positive" else scores, kind="stable")[:5]
        assert [hit.ordinal for hit in hits] == ordinals[order].tolist()
        assert np.allclose([hit.score for hit in hits], scores[order], rtol=1e-4)
    assert np.allclose(search.norms, norms, rtol=1e-6)


@pytest.mark.parametrize("budget", [64, 512, 1024, 2048, 6400, 200_000, 10_000_000])
def test_a_budget_is_kept_and_used(budget: int) -> None:
    plan = plan_rows(LAYERS, rank=None, bits=None, budget=budget)
    assert plan.bytes <= budget
    assert plan.width == width_at(LAYERS, plan.rank)
    enough = plan.code_bytes is None or plan.code_bytes >= plan.columns / 2  # half a byte a column is exact enough
    assert plan.bytes == budget or enough
    assert Coder.make(width=plan.width, columns=plan.columns, code_bytes=plan.code_bytes, seed=0).bytes == plan.bytes


def test_more_bytes_buy_columns_before_bits() -> None:
    plans = [plan_rows(LAYERS, rank=None, bits=None, budget=budget) for budget in (512, 1024, 2048, 6400)]
    for plan in plans:
        assert plan.columns == min(plan.width, 64 * (plan.bytes - HEADER_BYTES))
    assert plans[0].columns == 64 * (512 - HEADER_BYTES)


@pytest.mark.parametrize("bits", [8, 4, 2, 1])
def test_bits_are_those_of_a_column(bits: int) -> None:
    plan = plan_rows(LAYERS, rank=32, bits=bits, budget=None)
    assert (plan.width, plan.columns, plan.bytes) == (2048, 2048, HEADER_BYTES + 2048 * bits // 8)


def test_a_budget_below_the_header_is_refused() -> None:
    with pytest.raises(UsageError, match="--bytes 10: a document needs at least 64"):
        plan_rows(LAYERS, rank=None, bits=None, budget=10)


@pytest.mark.parametrize("in_byte", [None, 1, 2, 5.3, 48])
@pytest.mark.parametrize("count", [1, 30, 600])
def test_one_query_is_scored_by_a_kernel_as_by_tables(
    monkeypatch: pytest.MonkeyPatch, in_byte: float | None, count: int
) -> None:
    """The same estimate, of the same decoded row; many rows are shared by the cores."""
    coder = coder_of(in_byte, columns=1301)
    records = np.tile(coder.encode(whitened_rows(30)), (20, 1))[:count]
    query = np.random.default_rng(2).standard_normal(WIDTH).astype(np.float32)
    if in_byte is None:
        query[1301:] = 0  # float16 keeps every column
    expected = query @ coder.decode(records).T
    for numba in (True, False):
        monkeypatch.setattr("headwater_indexer.compiling.has_numba", lambda numba=numba: numba)
        found = coder.scorer(query[None])(records)
        assert np.allclose(found, expected, atol=1e-5 * np.abs(expected).max())
