"""Steps that are done once: each writes aside, is renamed when whole, and is reused only if its inputs are unchanged.

A step's result is named after the SHA-256 of everything that it is made from, so that "is it up to date" is the
question whether the name exists, and a step that was interrupted leaves nothing that could be taken for whole.
"""

import hashlib
import platform
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

OUT = "{out}"  # in a command: where the result goes
GRACE = 10.0  # seconds that a program has to end by itself


@dataclass(frozen=True, kw_only=True)
class Step:
    """A command that writes one file or folder, and what its result depends on."""

    name: str
    ending: str = ""  # of the result's name, where programs tell its kind by it
    command: Sequence[str | Path]  # OUT becomes the place that is written; a Path counts by its name alone
    sources: Sequence[Path] = ()  # files and folders of Python: the code that does the step
    packages: Sequence[str] = ()  # packages whose version changes the result
    resumes: bool = False  # the command itself goes on where it was interrupted

    @property
    def key(self) -> str:
        """16 hex digits over the command, the code, and the versions of Python and of the packages.

        An earlier step's result counts by its name, which is its own key: a cache or an environment can be moved.
        """
        digest = hashlib.sha256(platform.python_version().encode())
        for word in self.command:
            digest.update((word.name if isinstance(word, Path) else word).encode() + b"\0")
        for file in sorted(file for source in self.sources for file in _python_files(source)):
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        for package in self.packages:
            digest.update(f"{package}=={version(package)}\0".encode())
        return digest.hexdigest()[:16]


class StepError(Exception):
    """The demo cannot go on; `status` is what it exits with. A command that failed has said why on stderr."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def run(step: Step, cache: Path) -> Path:
    """The step's result in the cache, made now if it is not there. Results of the same step with other keys go."""
    result = cache / f"{step.name}-{step.key}{step.ending}"
    if result.exists():
        return result
    cache.mkdir(parents=True, exist_ok=True)
    aside = result.with_name(f"partial-{result.name}")
    if not step.resumes:
        remove(aside)
    with running([aside if word == OUT else word for word in step.command]) as program:
        status = program.wait()
    if status != 0:
        raise StepError(f"the step `{step.name}` ended with status {status}", status)
    aside.rename(result)
    for other in cache.glob(f"{step.name}-*"):
        if other != result:
            remove(other)
    return result


@contextmanager
def running(command: Sequence[str | Path]) -> Iterator[subprocess.Popen[bytes]]:
    """A program that has ended when the block is left, however it is left."""
    program = subprocess.Popen(command)  # noqa: S603 - words of our own, no shell
    try:
        yield program
    finally:
        end(program)


def end(program: subprocess.Popen[bytes]) -> None:
    """Ask a program to end, wait, and kill it if it does not. A second Ctrl-C is not needed and does no harm."""
    if program.poll() is not None:
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        program.terminate()
        program.wait(GRACE)
    except subprocess.TimeoutExpired:
        program.kill()
        program.wait()
    finally:
        signal.signal(signal.SIGINT, before)


def remove(path: Path) -> None:
    """Delete a file or folder if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _python_files(source: Path) -> list[Path]:
    return [source] if source.is_file() else list(source.rglob("*.py"))
