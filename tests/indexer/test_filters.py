"""Filters against a twin in plain Python, and against what a hostile caller might try."""

from operator import ge, gt, le, lt
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater_indexer.corpus import Document
from headwater_indexer.documents import DocumentStore, DocumentWriter
from headwater_indexer.filters import AllOf, AnyOf, Between, Not, OneOf, Where

KEYS = ["a", "b", 'quo"te', "back\\slash", "dot.ted", "é"]
SCALARS = st.sampled_from(["x", "y", "", "🌊", "1", "true", 0, 1, 2, -1, 1.0, 1.5, True, False, None])
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.sampled_from(KEYS), SCALARS, max_size=2)
DOCUMENTS = st.lists(
    st.tuples(
        st.none() | st.sampled_from(["x", "y"]),
        st.dictionaries(st.sampled_from(KEYS), VALUES | st.lists(VALUES, max_size=2), max_size=3),
    ),
    max_size=12,
)
NAMES = st.lists(st.sampled_from(KEYS), min_size=1, max_size=2).map(lambda names: ("metadata", *names))
PATHS = st.just(("source",)) | st.just(("document_id",)) | NAMES
BOUNDS = st.sampled_from([-1, 0, 1, 1.5, 2]) | st.sampled_from(["", "x", "1"])
CONDITIONS = st.builds(
    OneOf, PATHS, st.lists(SCALARS.filter(lambda value: value is not None), max_size=3).map(tuple)
) | st.builds(
    lambda path, first, second: Between(
        path,
        (("gte", first), ("lt", second)) if isinstance(first, str) == isinstance(second, str) else (("gt", first),),
    ),
    PATHS,
    BOUNDS,
    BOUNDS,
)
WHERES = st.recursive(
    CONDITIONS,
    lambda inner: (
        st.builds(Not, inner)
        | st.builds(AllOf, st.lists(inner, max_size=3).map(tuple))
        | st.builds(AnyOf, st.lists(inner, max_size=3).map(tuple))
    ),
    max_leaves=4,
)


def store(folder: Path, documents: list[Document]) -> DocumentStore:
    with DocumentWriter(folder / "documents.sqlite") as writer:
        for document in documents:
            writer.add(document, windows=1, tokens=1)
    return DocumentStore(folder / "documents.sqlite")


def items(document: Document, path: tuple[str, ...]) -> list:
    """What a condition on this path looks at."""
    if path in (("source",), ("document_id",)):
        return [document.source if path == ("source",) else document.id]
    value = document.metadata
    for name in path[1:]:
        if not isinstance(value, dict) or name not in value:
            return []
        value = value[name]
    return value if isinstance(value, list) else [value]


def kind(value: object) -> type:
    return float if isinstance(value, int | float) and not isinstance(value, bool) else type(value)


def passes(document: Document, where: Where) -> bool:
    match where:
        case OneOf(path, values):
            return any(kind(item) == kind(v) and item == v for item in items(document, path) for v in values)
        case Between(path, bounds):
            return any(all(compare(item, *bound) for bound in bounds) for item in items(document, path))
        case AllOf(parts):
            return all(passes(document, part) for part in parts)
        case AnyOf(parts):
            return any(passes(document, part) for part in parts)
        case Not(part):
            return not passes(document, part)
    raise TypeError(where)


def compare(item: Any, operator: str, bound: Any) -> bool:
    compared = {"gt": gt, "gte": ge, "lt": lt, "lte": le}[operator]
    return kind(item) == kind(bound) and compared(item, bound)


@settings(deadline=None, max_examples=80)
@given(given=DOCUMENTS, wheres=st.lists(WHERES, min_size=1, max_size=10))
def test_what_passes_is_what_the_twin_lets_pass(
    tmp_path_factory: pytest.TempPathFactory, given: list, wheres: list[Where]
) -> None:
    documents = [
        Document(id=("x", "y", "1")[n] if n < 3 else f"id {n}", text="t", source=source, metadata=metadata, prompt=None)
        for n, (source, metadata) in enumerate(given)
    ]
    with store(tmp_path_factory.mktemp("filters"), documents) as documents_store:
        for where in wheres:
            expected = [n for n, document in enumerate(documents) if passes(document, where)]
            assert documents_store.matching(where).tolist() == expected, where


@pytest.mark.parametrize("text", ["' OR 1=1 --", "x'); DROP TABLE documents; --", '"]', "$.a", "%", "\\", "?1", "{}"])
def test_values_and_names_are_never_read_as_sql_or_json(tmp_path: Path, text: str) -> None:
    named = Document(id="one", text="t", source=text, metadata={text: {text: [text]}}, prompt=None)
    other = Document(id="two", text="t", source="x", metadata={"x": "x"}, prompt=None)
    with store(tmp_path, [other, named]) as documents:
        for path in (("source",), ("metadata", text, text)):
            assert documents.matching(OneOf(path, (text,))).tolist() == [1]
            assert documents.matching(Not(OneOf(path, (text,)))).tolist() == [0]
            assert documents.matching(Between(path, (("gte", text), ("lte", text)))).tolist() == [1]


def test_one_and_true_are_not_kept_as_one_filter(tmp_path: Path) -> None:
    flags = [
        Document(id=str(n), text="t", source=None, metadata={"f": f}, prompt=None) for n, f in enumerate([1, True])
    ]
    with store(tmp_path, flags) as documents:
        assert documents.matching(OneOf(("metadata", "f"), (1,))).tolist() == [0]
        assert documents.matching(OneOf(("metadata", "f"), (True,))).tolist() == [1]
        assert documents.matching(OneOf(("metadata", "f"), (1.0,))).tolist() == [0]


def test_as_many_conditions_as_are_taken_fit_into_sqlite(tmp_path: Path) -> None:
    deep = ("metadata", *"abcdefgh")
    conditions = tuple(OneOf(deep, tuple(f"{n} {value}" for value in range(256))) for n in range(64))
    nested: object = ["63 255"]
    for name in reversed(deep[1:]):
        nested = {name: nested}
    one = Document(id="one", text="t", source=None, metadata=nested, prompt=None)
    with store(tmp_path, [one]) as documents:
        assert documents.matching(AllOf((AnyOf(conditions), Not(AllOf(conditions))))).tolist() == [0]
