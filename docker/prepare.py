"""Makes the index that a container serves, once: the one-shot service of compose.yaml and Kubernetes' job.

With HEADWATER_MODEL (a folder, or a name on the hub) and HEADWATER_DOCUMENTS (as `headwater-index build` takes them)
the index is of these. With neither it is the demo's: a small model is trained on Python's own documentation, so that an
empty machine without a network has something to ask. HEADWATER_INDEX_OPTIONS are further options of the build.

All of it goes to the folder HEADWATER_DATA (by default /data), and what is there already is not made again.
"""

import os
import shlex
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

import steps  # examples/demo; in the image it lies beside this file
from steps import OUT, StepError, remove, running

DEMO_OPTIONS = "--rank 16"


def main() -> NoReturn:
    signal.signal(signal.SIGTERM, interrupt)
    data = Path(os.environ.get("HEADWATER_DATA", "/data"))
    model, documents = os.environ.get("HEADWATER_MODEL"), os.environ.get("HEADWATER_DOCUMENTS")
    options = os.environ.get("HEADWATER_INDEX_OPTIONS", "")
    if bool(model) != bool(documents):
        raise StepError("set HEADWATER_MODEL and HEADWATER_DOCUMENTS, or neither of them for the demo's", 78)
    if not os.access(data, os.W_OK):
        raise StepError(f"{data} cannot be written by user {os.getuid()}: give it the folder, or take a new volume", 78)
    if not model or not documents:
        options = options or DEMO_OPTIONS
        model, documents = demo(data)
    build = ["headwater-index", "build", "--model", model, "--documents", documents, "--out", str(data / "index")]
    os.execvp(build[0], [*build, *shlex.split(options)])  # noqa: S606 - it gets the signals from now on


def demo(data: Path) -> tuple[str, str]:
    """The demo's model and corpus."""
    scripts = Path(steps.__file__).parent
    corpus, model = data / "corpus.jsonl", data / "model"
    once(corpus, [sys.executable, str(scripts / "corpus.py"), "--out", OUT])
    once(model, [sys.executable, str(scripts / "train.py"), "--corpus", str(corpus), "--out", OUT])
    return str(model), str(corpus)


def once(result: Path, command: list[str]) -> None:
    """Run a command that writes `result`, unless it is there; one that is interrupted leaves nothing of that name."""
    if result.exists():
        return
    aside = result.with_name(f"partial-{result.name}")
    remove(aside)
    with running([str(aside) if word == OUT else word for word in command]) as program:
        status = program.wait()
    if status != 0:
        raise StepError(f"{Path(command[1]).name} ended with status {status}", status if status > 0 else 128 - status)
    aside.rename(result)


def interrupt(_signal: int, _frame: FrameType | None) -> None:
    """What SIGTERM does: the program under way is ended too."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        main()
    except StepError as failure:
        print(f"prepare: {failure}", file=sys.stderr)
        sys.exit(failure.status)
    except KeyboardInterrupt:
        print("prepare: interrupted; run again it goes on", file=sys.stderr)
        sys.exit(143)
