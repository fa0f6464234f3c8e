"""The whole path on one machine: a corpus, a model trained on it, its index, a server, and a first answer.

    python examples/demo/demo.py            # or `make demo`; keeps serving until Ctrl-C
    python examples/demo/demo.py --once     # or `make demo ONCE=1`; ends after the answer

What takes time is kept in a cache folder and made again only if what it is made from has changed.
"""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Annotated

import httpx2
import typer
from rich.console import Console
from rich.text import Text
from steps import OUT, Step, StepError, run, running

import headwater
from headwater import table

HERE = Path(__file__).parent
PYTHON = Path(sys.executable)
COMMANDS = PYTHON.parent  # where pip puts headwater-index and headwater-serve
HOST = "127.0.0.1"
RANK = 16
PATIENCE = 120.0  # seconds until the server has to be ready

# From the language reference, `help("with")`.
PROMPT = 'The "with" statement is used to wrap the execution of a block with'
RESPONSE = (
    ' methods defined by a context manager. This allows common "try"..."except"..."finally" usage patterns'
    " to be encapsulated for convenient reuse."
)


def prepare(cache: Path) -> Path:
    """The recipe: documents, a model trained on them, and the index of how each moves the model."""
    corpus = run(
        Step(
            name="corpus",
            ending=".jsonl",
            command=[PYTHON, HERE / "corpus.py", "--out", OUT],
            sources=[HERE / "corpus.py"],
        ),
        cache,
    )
    model = run(
        Step(
            name="model",
            command=[PYTHON, HERE / "train.py", "--corpus", corpus, "--out", OUT],
            sources=[HERE / "train.py"],
            packages=["torch", "transformers", "tokenizers"],
        ),
        cache,
    )
    indexer = COMMANDS / "headwater-index"
    return run(
        Step(
            name="index",
            ending=".index",
            command=[indexer, "build", "--model", model, "--documents", corpus, "--out", OUT, "--rank", str(RANK)],
            sources=[source_of("headwater_indexer")],
            packages=["torch", "transformers", "numpy"],
            resumes=True,
        ),
        cache,
    )


def source_of(package: str) -> Path:
    """The folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise StepError(f"{package} is not installed: run `make demo`, or pip install -e '.[server,cpu]'", 78)
    return Path(spec.origin).parent


def in_use(port: int) -> bool:
    """Whether another program listens there: its answers must not be taken for those of our server."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


def wait_until_ready(server: subprocess.Popen[bytes], url: str) -> None:
    """Return when /readyz says 200; raise StepError with the server's own status if it ends before."""
    deadline = time.monotonic() + PATIENCE
    while server.poll() is None:
        try:
            if httpx2.get(f"{url}/readyz", trust_env=False).status_code == 200:  # loopback: past any proxy
                return
        except httpx2.TransportError:
            pass  # not listening yet
        if time.monotonic() > deadline:
            raise StepError(f"the server was not ready within {PATIENCE:.0f} s", 1)
        time.sleep(0.1)
    raise StepError("the server has ended", server.returncode)


def ask(url: str, picture: Path | None) -> None:
    """One question by the SDK, and its answer as tables."""
    with headwater.Client(base_url=url) as client:
        answer = client.attribute(prompt=PROMPT, response=RESPONSE, top_k=10)
    console = Console(record=picture is not None, width=120 if picture else None, highlight=False)
    console.print(Text.assemble("\nWhich documents made the model say this?\n", style="bold"))
    console.print(Text.assemble((PROMPT, "dim"), (RESPONSE, "italic")), "\n")
    for part in table.attribution(answer):
        console.print(part)
    if picture is not None:
        console.save_svg(str(picture), title="headwater attribute")


def interrupt(_signal: int, _frame: FrameType | None) -> None:
    """SIGTERM ends the demo as Ctrl-C does, and so ends the server too."""
    raise KeyboardInterrupt


def default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headwater" / "demo"


def main(
    cache: Annotated[Path | None, typer.Option(help="Where corpus, model and index are kept.")] = None,
    port: Annotated[int, typer.Option(help="Where the server listens.", min=1, max=65535)] = 8000,
    once: Annotated[bool, typer.Option("--once", help="End after the first answer.")] = False,
    picture: Annotated[Path | None, typer.Option(help="Save the answer as an SVG picture.")] = None,
) -> None:
    """Train a small model on Python's own documentation and ask which documents made it say something."""
    signal.signal(signal.SIGTERM, interrupt)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin slow a busy machine down severalfold
    url = f"http://{HOST}:{port}"
    started = False
    try:
        index = prepare((cache or default_cache()).resolve())
        taken = in_use(port)
        with running([COMMANDS / "headwater-serve", index, "--host", HOST, "--port", str(port)]) as server:
            if taken:  # the server says so itself, and ends
                raise StepError("the server has ended", server.wait())
            wait_until_ready(server, url)
            started = True
            ask(url, picture)
            if once:
                return
            typer.echo(f"\nServing until Ctrl-C. The page: {url}/   From another terminal:\n")
            typer.echo(f"    {COMMANDS}/headwater attribute --prompt '{PROMPT}' --response '...' --top-k 10\n")
            raise StepError("the server has ended", server.wait())
    except StepError as failure:
        typer.echo(f"demo: {failure}", err=True)
        raise typer.Exit(failure.status) from None
    except KeyboardInterrupt:
        raise typer.Exit(0 if started else 130) from None


if __name__ == "__main__":
    typer.run(main)
