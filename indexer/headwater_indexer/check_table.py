"""A model's self-test as tables for people."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headwater_indexer.check_model import Kernel, Kind, ModelReport

WIDTH = 120  # characters, where the output is no terminal


def print_report(report: ModelReport, console: Console | None = None) -> None:
    """To stdout: the model, kernels of attention, watched layers, what cannot be watched, and the verdict."""
    console = console or Console()
    if not console.is_terminal:
        console.width = WIDTH
    console.print(Text(_described(report)))
    console.print(_kernel_table(report))
    console.print(_layer_table(report.kinds))
    for name, reason in report.refused.items():
        console.print(Text(f"Cannot be watched: {name}: {reason}"))
    console.print(Text(_verdict(report)))


def _described(report: ModelReport) -> str:
    positions = "any length" if report.longest_window is None else f"at most {report.longest_window:,} tokens"
    template = "a chat template" if report.chat_template else "no chat template"
    return (
        f"{report.model}\n{report.architecture}: {report.parameters:,} numbers in {report.dtype} on {report.device}, "
        f"windows of {positions}, {template}"
    )


def _kernel_table(report: ModelReport) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for column in ("attention", "beside others", "with padding", "in a pack", "rows"):
        table.add_column(column, overflow="fold")
    for kernel in report.kernels:
        figures = (kernel.beside_others, kernel.with_padding, kernel.in_a_pack)
        name = f"{kernel.name} (in use)" if kernel.in_use else kernel.name
        table.add_row(name, *(_figure(figure) for figure in figures), _judged(kernel, report.tolerance))
    table.caption = "Largest difference of a row from the row alone, relative to its length"
    return table


def _judged(kernel: Kernel, tolerance: float) -> str:
    if kernel.failure is not None:
        return f"not here: {kernel.failure}"
    verdict = "the same" if kernel.largest <= tolerance else "depend on the batch"
    return f"{verdict}; {'packed' if kernel.packed else 'padded'}"


def _layer_table(kinds: tuple[Kind, ...]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    table.add_column("--layers")
    table.add_column("watched", overflow="fold")
    for column in ("layers", "in", "out", "second moments"):
        table.add_column(column, justify="right")
    for kind in kinds:
        table.add_section()
        if kind.refused is not None:
            table.add_row(kind.keyword, f"refused: {kind.refused}")
        for number, shape in enumerate(kind.shapes):
            keyword, memory = (kind.keyword, f"{kind.moments_bytes / 1e6:,.1f} MB") if number == 0 else ("", "")
            table.add_row(keyword, shape.path, str(shape.count), str(shape.in_dim), str(shape.out_dim), memory)
    return table


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"


def _verdict(report: ModelReport) -> str:
    if report.independent:
        return f"Rows do not depend on their batch (tolerance {report.tolerance:g} of a row's length)."
    failed = [kernel.failure for kernel in report.kernels if kernel.in_use and kernel.failure]
    if failed:
        return f"Rows cannot be measured: {failed[0]}."
    return (
        f"Rows DEPEND on their batch, beyond {report.tolerance:g} of their length: build with --dtype float32, or one "
        "window a batch (--batch-tokens 1)."
    )
