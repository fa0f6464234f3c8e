"""Two-stage search against brute force: with enough candidates it is exact, with few it finds what stands out."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch

from headwater_indexer.coded_search import CodedSearch
from headwater_indexer.codes.coder import Coder
from headwater_indexer.errors import DataError, HeadwaterError
from headwater_indexer.search import ScoreKind, Sign
from headwater_indexer.signs.coder import HEADER_BYTES, SignCoder
from headwater_indexer.signs.folding import fold, unfold
from headwater_indexer.signs.query import query_planes
from headwater_indexer.signs.scan import DEVIATIONS, SignScan
from headwater_indexer.signs.scan_kernel import scan
from headwater_indexer.store.reader import RowReader
from headwater_indexer.store.shards import ShardStore
from headwater_indexer.two_stage import TwoStageSearch

COUNT, WIDTH, GROUPS = 3_001, 1_500, 150
REMOVED = np.array([3, 17, 1999, 2500])


@pytest.fixture(scope="module", autouse=True)
def _two_threads() -> None:
    torch.set_num_threads(2)


def draw_rows(seed: int = 0) -> np.ndarray:
    """Documents of groups, of very different lengths, one of them zero."""
    draw = np.random.default_rng(seed)
    centres = draw.standard_normal((GROUPS, WIDTH))
    rows = 0.7 * centres[draw.integers(GROUPS, size=COUNT)] + draw.standard_t(10, (COUNT, WIDTH))
    rows *= draw.pareto(1.5, (COUNT, 1)) + 0.1
    rows[17] = 0
    return rows.astype(np.float32)


ROWS = draw_rows()
QUERIES = (ROWS[[5, 700, 2100]] / 9 + np.random.default_rng(1).standard_normal((3, WIDTH))).astype(np.float32)


def signs_of(rows: np.ndarray, most: int = WIDTH) -> SignScan:
    coder = SignCoder.make(WIDTH, most=most, seed=0)
    return SignScan.of(coder, len(rows), np.array_split(coder.encode(rows), 3))


def exact_search() -> CodedSearch:
    """Over rows of 4 bits; that it is brute force is tested with it."""
    coder = Coder.make(width=WIDTH, columns=WIDTH, code_bytes=WIDTH // 2, seed=0)
    with TemporaryDirectory() as folder:  # what is open can be read when its name is gone
        store = ShardStore(Path(folder) / "rows", width=coder.bytes, dtype="uint8")
        for records in np.array_split(coder.encode(ROWS), 4):
            store.append(records)
        return CodedSearch(coder, RowReader.open(store))


EXACT = exact_search()


def search_with(candidates: int, most: int = WIDTH) -> TwoStageSearch:
    return TwoStageSearch(signs_of(ROWS, most), EXACT, candidates=candidates)


def differing(words: np.ndarray, planes: np.ndarray) -> np.ndarray:
    """Bits of rows and planes that are folded: [rows, planes]."""
    bits = words[:, None] ^ planes
    unfold(bits)
    return np.bitwise_count(bits).sum(2, dtype=np.int64)


SEARCHED = {
    "all": {},
    "few": {"among": np.arange(5, 60, 5)},
    "many": {"among": np.arange(0, COUNT, 2)},
    "without": {"without": REMOVED},
}


@pytest.mark.parametrize("score", ["relatif", "influence", "cosine"])
@pytest.mark.parametrize("sign", ["positive", "negative"])
@pytest.mark.parametrize("which", SEARCHED)
def test_what_is_found_is_what_the_exact_search_finds(score: ScoreKind, sign: Sign, which: str) -> None:
    without = SEARCHED[which].get("without")
    among = SEARCHED[which].get("among") if without is None else np.delete(np.arange(COUNT), without)
    found = search_with(5_600)(QUERIES, top_k=5, score=score, sign=sign, **SEARCHED[which])
    expected = EXACT(QUERIES, top_k=5, score=score, sign=sign, among=among)
    for ours, theirs in zip(found, expected, strict=True):
        assert [hit.ordinal for hit in ours] == [hit.ordinal for hit in theirs]
        assert np.allclose([hit.score for hit in ours], [hit.score for hit in theirs], rtol=1e-5, atol=1e-3)
        assert [hit.percentile for hit in ours] == [hit.percentile for hit in theirs]


def test_a_question_alone_is_answered_as_among_many() -> None:
    search = search_with(400)
    together = search(QUERIES, top_k=20, score="relatif", sign="positive")
    alone = [search(query[None], top_k=20, score="relatif", sign="positive")[0] for query in QUERIES]
    assert [[hit.ordinal for hit in hits] for hits in together] == [[hit.ordinal for hit in hits] for hits in alone]


def test_a_long_list_takes_more_candidates() -> None:
    (hits,) = search_with(100)(QUERIES[:1], top_k=1_000, score="relatif", sign="positive")
    assert len({hit.ordinal for hit in hits}) == 1_000
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


@pytest.mark.parametrize("score", ["relatif", "influence"])
def test_many_questions_are_proposed_what_a_count_of_all_bits_proposes(score: ScoreKind) -> None:
    """Rows are passed over by the high plane alone, and by a threshold that a sample tells: hardly one is lost."""
    draw = np.random.default_rng(4)
    count, wanted = 40_000, 1_000
    near = draw.integers(0, 8, count)
    queries = draw.standard_normal((8, 640)).astype(np.float32)
    rows = (draw.gamma(1, 0.2, (count, 1)) * queries[near] + draw.standard_normal((count, 640))).astype(np.float32)
    rows *= draw.lognormal(0, 0.4, (count, 1)).astype(np.float32)
    coder = SignCoder.make(640, most=640, seed=0)
    scan = SignScan.of(coder, count, [coder.encode(rows)])
    made = query_planes(coder, queries)
    low, high = (differing(scan.words, made.planes[:, n]) for n in range(2))
    products = (made.middle - low - 2 * high) * made.steps * scan.factors[:, None]
    deviation = scan._deviation * DEVIATIONS * made.lengths
    scores = (products + deviation) * (scan.norms[:, None] if score == "influence" else 1)
    for question, proposed in enumerate(scan.propose(queries, candidates=wanted, score=score)):
        order = np.argsort(-scores[:, question])
        assert len(proposed.ordinals) == wanted
        assert len(np.intersect1d(proposed.ordinals, order[:wanted])) > 0.97 * wanted
        assert set(order[: wanted // 4]) <= set(proposed.ordinals)
        assert np.allclose(proposed.bounds, scores[proposed.ordinals, question], rtol=1e-4)


@pytest.mark.parametrize(("most", "error"), [(WIDTH, 0.9), (512, 2.3)])
def test_signs_tell_scores_without_bias(most: int, error: float) -> None:
    """The error of one estimate is sqrt(pi/2 - 1) of a random cosine, more where columns are left out."""
    draw = np.random.default_rng(3)
    queries = draw.standard_normal((1, WIDTH)).astype(np.float32)
    alike = draw.uniform(-0.5, 0.5, (2_000, 1))
    rows = (alike * queries + draw.standard_normal((2_000, WIDTH))).astype(np.float32)
    coder = SignCoder.make(WIDTH, most=most, seed=0)
    records = coder.encode(rows)
    made = query_planes(coder, queries)
    words = np.zeros((len(records), coder.words_in_memory), np.uint64)
    words[:, : coder.words] = np.ascontiguousarray(records[:, HEADER_BYTES:]).view(np.uint64)
    fold(words)
    counted = differing(words, made.planes[0]) @ [1, 2]
    factors = np.ascontiguousarray(records[:, 4:8]).view(np.float32)[:, 0]
    found = (made.middle - counted) * made.steps[0] * factors
    exact = (rows @ queries[0]) / np.linalg.norm(rows, axis=1)
    slope, offset = np.polyfit(exact, found, 1)
    assert slope == pytest.approx(1, abs=0.03)
    assert abs(offset) < 0.1
    assert (found - exact).std() / np.linalg.norm(queries) * WIDTH**0.5 < error


def test_signs_cost_a_bit_a_column_and_are_read_by_another_process_alike(tmp_path: Path) -> None:
    for most in (WIDTH, 512):
        coder = SignCoder.make(WIDTH, most=most, seed=0)
        coder.save(tmp_path / "signs.safetensors")
        loaded = SignCoder.load(tmp_path / "signs.safetensors")
        assert loaded.bytes == coder.bytes == HEADER_BYTES + -(-most // 64) * 8
        assert np.array_equal(loaded.encode(ROWS[:10]), coder.encode(ROWS[:10]))


def test_a_row_that_is_not_finite_is_refused() -> None:
    rows = ROWS[:300].copy()
    rows[280, 3] = np.inf
    with pytest.raises(DataError, match="row 280 is not finite"):
        SignCoder.make(WIDTH, most=WIDTH, seed=0).encode(rows)


def test_a_pass_that_computes_wrongly_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bits that the processor counts wrongly are seen before the first search."""
    signs = signs_of(ROWS[:50])

    def wrong(words: np.ndarray, *others: object) -> None:
        scan(words & ~np.uint64(1 << 63), *others)  # one column of each word is lost

    monkeypatch.setattr("headwater_indexer.signs.scan_kernel.scan", wrong)
    with pytest.raises(HeadwaterError, match="wrong scores at 1500 columns"):
        signs.check()
