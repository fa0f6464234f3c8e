"""Answers as a person reads them in a terminal. Whatever a document holds is shown as text, never obeyed."""

import unicodedata
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import zip_longest

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from headwater.types import Attribution, DocumentRecord, Explanation, IndexList, TokenInfluence

FIRST_WORDS = 200  # characters of a document that a table looks at
STRONGEST = 10  # tokens that a table shows of each side
CAVEAT = "Scores are estimates of influence, and no proof that a document caused the response."


def plain(text: str) -> str:
    """Text without what a terminal would obey: escapes, and marks that hide or reorder. Line ends and tabs stay."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co"))


def one_line(text: str) -> str:
    """A text on one line, with single spaces."""
    return " ".join(plain(" ".join(text.split())).split())


def first_words(text: str) -> str:
    """The beginning of a text, on one line."""
    return one_line(text[: 2 * FIRST_WORDS])[:FIRST_WORDS]


def show(renderable: RenderableType) -> None:
    """Print to stdout, without colours unless a terminal reads them; text is left to the terminal to wrap."""
    Console(highlight=False, markup=False, emoji=False).print(renderable, soft_wrap=not isinstance(renderable, Table))


def attribution(answer: Attribution) -> Iterator[RenderableType]:
    """Documents ranked by influence, then the credit by source, then what the scores are not."""
    documents = _table("rank>", "score>", "percentile>", "document", "source", "text")
    for hit in answer.data:
        _row(
            documents,
            str(hit.rank),
            f"{hit.score:#.4g}",
            f"{hit.percentile:.2f}",
            hit.document_id,
            hit.source or "",
            hit.text or "",
        )
    yield documents if answer.data else _line("The index gave no documents.")
    if answer.sources:
        sources = _table("credit>", "documents>", "source")
        for credit in answer.sources:
            _row(sources, f"{credit.share:.1%}", str(credit.documents), credit.source or "(no source)")
        yield Text()
        yield sources
        yield Text()
    index, method = answer.index, answer.method
    yield _line(
        f"{method.sign} {method.score} over {index.documents} documents of {index.name}, "
        f"{answer.model}, {answer.timings_ms.total:.0f} ms"
    )
    yield _line(CAVEAT)


def explanation(answer: Explanation) -> Iterator[RenderableType]:
    """For each document its score, and the tokens of either side that it is most made of."""
    for one in answer.data:
        yield _line(f"{one.document_id}: {one.score:#.4g}")
        tokens = _table("influence>", "in the document", "influence>", "in the response")
        for mine, yours in zip_longest(_strongest(one.document), _strongest(one.response)):
            _row(tokens, *_token(mine), *_token(yours))
        yield tokens
        yield Text()
    yield _line(CAVEAT)


def document(record: DocumentRecord) -> Iterator[RenderableType]:
    """A document's id, source and metadata, a blank line, and its text."""
    facts = {"id": record.id, "source": record.source, "tokens": record.tokens, **record.metadata}
    for name, value in facts.items():
        if value is not None:
            yield _line(f"{name}: {value}")
    for part in (record.prompt, record.text):
        if part is not None:
            yield Text("\n" + plain(part))


def indexes(answer: IndexList) -> Iterator[RenderableType]:
    """One line for each index."""
    table = _table("index", "documents>", "model", "method", "width>", "built", "version")
    for index in answer.data:
        projection, hessian = index.method.projection, index.method.hessian
        _row(
            table,
            index.name,
            str(index.documents),
            "@".join(part for part in (index.model.id, (index.model.revision or "")[:8]) if part),
            f"{projection.kind} {projection.rank}, {hessian.kind} {hessian.damping:g}",
            str(index.width),
            _day(index.created),
            index.version[:15],
        )
    yield table


def _strongest(tokens: Sequence[TokenInfluence]) -> list[TokenInfluence]:
    return sorted(tokens, key=lambda token: -abs(token.influence))[:STRONGEST]


def _token(token: TokenInfluence | None) -> tuple[str, str]:
    return ("", "") if token is None else (f"{token.influence:#.3g}", token.text)


def _table(*headings: str) -> Table:
    """An empty table; a heading in ">" is of numbers, which give way last on a narrow terminal."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        number = heading.endswith(">")
        table.add_column(Text(heading.rstrip(">")), justify="right" if number else "left", no_wrap=number)
    return table


def _row(table: Table, *cells: str) -> None:
    table.add_row(*(Text(first_words(cell), no_wrap=True, overflow="ellipsis") for cell in cells))


def _line(text: str) -> Text:
    return Text(one_line(text))


def _day(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).date().isoformat()
    except (OverflowError, ValueError, OSError):
        return str(seconds)
