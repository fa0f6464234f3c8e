"""A virtual environment for each rival, made once, at the versions of its requirements file."""

import hashlib
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "requirements"
TORCH = "torch==2.13.0"


class NoEnvironmentError(Exception):
    """Why a rival cannot be run here."""


def python_for(rival: str, folder: Path, *, install: bool) -> Path:
    """The interpreter of the rival's environment under `folder`, which is made if `install` allows it.

    torch goes first and with its dependencies, the rest without theirs: every version is written down, and what some
    name but do not need (torchvision) stays away. Raises NoEnvironmentError with the last line of what went wrong.
    """
    requirements = REQUIREMENTS / f"{rival}.txt"
    if not requirements.exists():  # Headwater and the baselines: this environment
        return Path(sys.executable)
    wanted = hashlib.sha256(requirements.read_bytes() + TORCH.encode()).hexdigest()
    environment = folder / f"{rival}-{wanted[:12]}"
    python, done = environment / "bin" / "python", environment / "installed"
    if done.exists():
        return python
    if not install:
        raise NoEnvironmentError("its environment is not made yet: run without --quick")
    _run([sys.executable, "-m", "venv", "--clear", environment])
    _run([python, "-m", "pip", "install", "--quiet", TORCH, "setuptools"])
    # LogIX asks for a Python below 3.11 and runs in later ones.
    _run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--ignore-requires-python", "-r", requirements])
    done.touch()
    return python


def _run(command: list[str | Path]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise NoEnvironmentError(f"cannot be installed: {lines[-1] if lines else 'pip failed'}")
