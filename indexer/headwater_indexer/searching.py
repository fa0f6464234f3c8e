"""Opens the search of a segment: by what is stored of its rows, and by the plan."""

from headwater_indexer.coded_search import CodedSearch, coded_store
from headwater_indexer.codes.coder import Coder
from headwater_indexer.codes.plain import PlainRows
from headwater_indexer.search import FlatSearch, flat_index
from headwater_indexer.signs.coder import SignCoder
from headwater_indexer.signs.scan import SignScan
from headwater_indexer.store.reader import RowReader
from headwater_indexer.store.shards import ShardStore
from headwater_indexer.two_stage import TwoStageSearch
from headwater_indexer.workspace import Workspace

SIGNS_AT_ONCE = 4096  # documents whose signs are read together


def open_exact(work: Workspace, *, plain: bool) -> FlatSearch | CodedSearch:
    """Every document is scored. Raises IndexDamaged for files that are not as they should be."""
    if plain:
        return FlatSearch.open(work.search, work.norms)
    coder = Coder.load(work.coder)
    return CodedSearch.open(coder, coded_store(work, coder))


def open_two_stage(work: Workspace, width: int, *, plain: bool, candidates: int) -> TwoStageSearch:
    """Signs in memory propose, and rows that stay in their files decide. Raises as `open_exact`, and HeadwaterError
    where the quick pass computes wrongly."""
    return _two_stage(work, width, plain, candidates, None)


def open_part(
    work: Workspace, width: int, *, plain: bool, candidates: int | None, shards: range
) -> FlatSearch | CodedSearch | TwoStageSearch:
    """The search of some shards' documents alone, numbered from the first: by two stages with `candidates`."""
    if candidates is not None:
        return _two_stage(work, width, plain, candidates, shards)
    if plain:
        store = ShardStore(work.rows, width=width)
        return FlatSearch(*flat_index((store.read(store.manifest.shards[number]) for number in shards), width))
    coder = Coder.load(work.coder)
    return CodedSearch(coder, RowReader.open(coded_store(work, coder), shards))


def _two_stage(work: Workspace, width: int, plain: bool, candidates: int, shards: range | None) -> TwoStageSearch:
    """Of some shards' documents, or of all."""
    coder = SignCoder.load(work.sign_coder)
    stored = RowReader.open(sign_store(work, coder), shards)
    signs = SignScan.of(coder, len(stored), stored.blocks(SIGNS_AT_ONCE))
    if plain:
        rows = RowReader.open(ShardStore(work.rows, width=width), shards)
        exact = CodedSearch(PlainRows(width), rows, norms=signs.norms)
    else:
        records = Coder.load(work.coder)
        exact = CodedSearch(records, RowReader.open(coded_store(work, records), shards), norms=signs.norms)
    return TwoStageSearch(signs, exact, candidates=candidates)


def sign_store(work: Workspace, coder: SignCoder) -> ShardStore:
    """The segment's store of signs, opened or begun."""
    return ShardStore(work.signs, width=coder.bytes, dtype="uint8")
