"""How an index is searched: exactly, or in two stages; chosen by its size, and by what memory there is."""

from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Literal

from headwater_indexer.errors import ConfigurationError
from headwater_indexer.memory import size
from headwater_indexer.signs.coder import HEADER_BYTES, WORD_BITS

PlanKind = Literal["exact", "two-stage"]
AskedPlan = Literal["auto", "exact", "two-stage"]
SIGN_COLUMNS = 12_288  # at most: more bits tell more, and a pass over them takes as much longer
BESIDE_WORDS = 20  # bytes of a document beside its signs, while it is searched
HEADROOM = 300_000_000  # bytes of a process beside its rows: blocks, tables and batches of a search

# Measured on 2 cores (benchmarks/index.py); they decide nothing but which plan `auto` takes.
BYTES_A_SECOND = 15e9  # of rows multiplied in memory
CODES_A_SECOND = 1e9  # of records met by one query
GATHER_SECONDS = 0.02  # to score candidates
PATIENCE = 0.05  # seconds of an exact search that nobody needs shorter


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What is stored of the documents."""

    documents: int
    width: int  # columns
    record_bytes: int  # of a document, in codes; ignored for plain rows
    plain: bool  # float32, held in memory

    @property
    def sign_columns(self) -> int:
        """Those whose signs are worth their memory: no more than a record takes."""
        most = SIGN_COLUMNS if self.plain else min(SIGN_COLUMNS, 8 * self.record_bytes)
        return self.width if self.width <= most else max(WORD_BITS, most // WORD_BITS * WORD_BITS)

    @property
    def sign_bytes(self) -> int:
        """Of a document, on the disk."""
        return HEADER_BYTES + -(-self.sign_columns // WORD_BITS) * 8


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A way to search, with its price for a search and for a process that serves it."""

    kind: PlanKind
    rows: Rows
    memory_bytes: int  # held for searching
    disk_bytes: int  # beside the rows
    seconds: float  # of one question, roughly
    why: str = ""

    def __str__(self) -> str:
        rows = self.rows
        disk = f", {size(self.disk_bytes)} of disk beside the rows" if self.disk_bytes else ""
        named = (
            "exact search: every row is scored"
            if self.kind == "exact"
            else f"two-stage search: {rows.sign_columns:,} signs of each document propose, rows decide"
        )
        return (
            f"{named}; {size(self.memory_bytes)} of memory{disk}, about {1000 * self.seconds:,.0f} ms a question on 2 "
            f"cores{self.why and f' ({self.why})'}"
        )


def exact(rows: Rows) -> Plan:
    """Plain rows are held in memory; codes are read from their files."""
    held = 4 * rows.width + 8 if rows.plain else 4
    scored = 4 * rows.width / BYTES_A_SECOND if rows.plain else rows.record_bytes / CODES_A_SECOND
    return Plan(
        kind="exact",
        rows=rows,
        memory_bytes=HEADROOM + rows.documents * held,
        disk_bytes=0,
        seconds=rows.documents * scored,
    )


def two_stage(rows: Rows) -> Plan:
    """Signs are held in memory; rows, plain ones too, are read from their files."""
    return Plan(
        kind="two-stage",
        rows=rows,
        memory_bytes=HEADROOM + rows.documents * (rows.sign_bytes + BESIDE_WORDS),
        disk_bytes=rows.documents * rows.sign_bytes,
        seconds=rows.documents * rows.sign_bytes / BYTES_A_SECOND + GATHER_SECONDS,
    )


def choose(asked: AskedPlan, rows: Rows, *, memory: int | None, gpu: bool = False, signs: bool = True) -> Plan:
    """The plan that is asked for, or for `auto` the one that answers sooner in `memory` bytes, which is a hard limit.

    `signs` tells whether the index has them, or can still be given them. Raises ConfigurationError, with the sizes,
    when nothing fits, and for two stages without signs or without numba.
    """
    one, two = exact(rows), two_stage(rows)
    if asked == "auto":
        return _auto(one, two, memory=memory, gpu=gpu, signs=signs and find_spec("numba") is not None)
    if asked == "two-stage" and not signs:
        raise ConfigurationError(
            "--plan two-stage: this index has no signs to propose documents by: build it with --plan two-stage"
        )
    chosen = one if asked == "exact" else two
    if memory is not None and chosen.memory_bytes > memory:
        other = two if chosen is one else one
        raise ConfigurationError(
            f"{chosen.kind} search of {rows.documents:,} documents needs {size(chosen.memory_bytes)} and --memory "
            f"leaves {size(max(0, memory))}: raise it, or choose --plan {other.kind} ({size(other.memory_bytes)})"
        )
    return chosen


def _auto(one: Plan, two: Plan, *, memory: int | None, gpu: bool, signs: bool) -> Plan:
    fits = [plan for plan in (one, two) if memory is None or plan.memory_bytes <= memory]
    if not signs:
        fits = [plan for plan in fits if plan is one]
    if not fits:
        raise ConfigurationError(
            f"--memory leaves {size(max(0, memory or 0))} for searching {one.rows.documents:,} documents; exact search "
            f"needs {size(one.memory_bytes)}"
            + (f" and two-stage search {size(two.memory_bytes)}" if signs else "")
            + ": raise it, or build with fewer --bytes"
        )
    if one in fits and gpu and one.rows.plain:
        return replace(one, why="on the GPU")
    if one in fits and one.seconds <= PATIENCE:
        return one
    quickest = min(fits, key=lambda plan: plan.seconds)
    return replace(quickest, why="the only one that fits --memory") if len(fits) == 1 and signs else quickest
