"""How the demo shows an answer in a terminal: documents by rank, then credit by source."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from headwater.types import Attribution

WORDS = 12  # of each document's text


def show(console: Console, answer: Attribution, prompt: str, response: str) -> None:
    """Print the question, the ranked documents and the sources' shares."""
    console.print(Text.assemble("\nWhich documents made the model say this?\n", style="bold"))
    console.print(Text.assemble((prompt, "dim"), (response, "italic")))
    console.print(documents(answer))
    console.print(sources(answer))
    took = answer.timings_ms.total / 1000
    console.print(
        f"{answer.index.documents:,} documents searched in {took:.2f} s. "
        "Scores are estimates of influence, and no proof.",
        style="dim",
    )


def documents(answer: Attribution) -> Table:
    """One row per document, most influential first."""
    table = Table(title="Influential documents", title_justify="left", expand=True)
    table.add_column("rank", justify="right")
    table.add_column("score", justify="right")
    table.add_column("source", overflow="fold")
    table.add_column("document", overflow="fold")
    table.add_column("first words", ratio=1)
    for found in answer.data:
        words = " ".join((found.text or "").split()[:WORDS])
        table.add_row(str(found.rank), f"{found.score:.3f}", found.source or "", found.document_id, Text(words))
    return table


def sources(answer: Attribution) -> Table:
    """How the credit of these documents is shared among their sources."""
    table = Table(title="Credit by source", title_justify="left")
    table.add_column("source")
    table.add_column("share", justify="right")
    table.add_column("documents", justify="right")
    for share in answer.sources:
        table.add_row(share.source or "", f"{share.share:.1%}", str(share.documents))
    return table
