"""Somebody who follows a page: types its commands into a shell, and its Python into one interpreter, top to bottom."""

import contextlib
import io
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from doc_blocks import ROOT, Block

COMMANDS = Path(sys.executable).parent
SECONDS = 240  # of one block

# Commands as somebody with several terminals types them: what serves is left running and awaited.
_SERVE = """#!/bin/sh
case " $* " in *" --help "*) exec "$COMMANDS/headwater-serve" "$@" ;; esac
[ -s pids ] && { kill $(cat pids); while kill -0 $(cat pids) 2>/dev/null; do sleep 0.1; done; : > pids; }
"$COMMANDS/headwater-serve" "$@" > serve.log 2>&1 &
echo $! > pids
until grep -q ready serve.log; do
    kill -0 $! 2>/dev/null || { : > pids; cat serve.log >&2; wait $!; exit $?; }
    sleep 0.1
done
[ ! -s others ] || until "$COMMANDS/python" -c "
import urllib.request; urllib.request.urlopen('http://127.0.0.1:$SECOND_PORT/health')" 2>/dev/null; do
    kill -0 $(cat others) || { cat transformers.log >&2; exit 1; }
    sleep 0.3
done
"""
_TRANSFORMERS = """#!/bin/sh
echo $$ >> others
exec "$COMMANDS/transformers" "$@" --device cpu > transformers.log 2>&1
"""
_MAKE = """#!/bin/sh
cd "$ROOT" && exec "$MAKE" -n "$@" > /dev/null
"""
_PIP = """#!/bin/sh
exec "$COMMANDS/python" "$ROOT/tests/docs/doc_pip.py" "$@"
"""


class Reader:
    """Follows one page in a folder of its own. Leave the `with`, and whatever was started has ended."""

    def __init__(self, place: Path, address: str | None) -> None:
        self.place = place
        self.printed = ""
        self._port, self._second = _free_port(), _free_port()
        self._address = address or f"127.0.0.1:{self._port}"
        self._names: dict[str, Any] = {"__name__": "__main__"}
        self._environment = os.environ | {
            "PATH": f"{_write_commands(place / '.bin')}:{COMMANDS}:{os.environ['PATH']}",
            "COMMANDS": str(COMMANDS),
            "ROOT": str(ROOT),
            "MAKE": shutil.which("make") or "make",
            "HEADWATER_BASE_URL": f"http://{self._address}",
            "HEADWATER_PORT": str(self._port),
            "SECOND_PORT": str(self._second),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "120",
        }

    def follow(self, block: Block) -> None:
        """Run a block; `printed` is then what it printed, its errors included."""
        text = self._with_free_ports(block.text)
        if block.language == "python":
            self.printed = self._interpret(text, str(block))
        else:
            self.printed = self._type(text, str(block), int(block.rest) if block.kind == "fails" else 0)

    def _with_free_ports(self, text: str) -> str:
        """The ports of the page are taken on some machine; these are not."""
        text = re.sub(r"(localhost|127\.0\.0\.1):8000", self._address, text)
        return text.replace("8001", str(self._second))

    def _type(self, text: str, name: str, code: int) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.place,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == code, f"{name} ended with {done.returncode} and not {code}:\n{text}\n{done.stdout}"
        return done.stdout

    def _interpret(self, text: str, name: str) -> str:
        said = io.StringIO()
        with contextlib.chdir(self.place), _environment(self._environment), contextlib.redirect_stdout(said):
            exec(compile(text, name, "exec"), self._names)  # noqa: S102  the page's own code
        return said.getvalue()

    def leave(self) -> None:
        """End what the page has started."""
        for file in (self.place / "pids", self.place / "others"):
            for pid in map(int, file.read_text().split()) if file.exists() else ():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)


@contextlib.contextmanager
def _environment(wanted: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(wanted)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _write_commands(folder: Path) -> Path:
    folder.mkdir()
    scripts = {"headwater-serve": _SERVE, "transformers": _TRANSFORMERS, "make": _MAKE, "pip": _PIP}
    for name, script in scripts.items():
        file = folder / name
        file.write_text(script)
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return folder


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
