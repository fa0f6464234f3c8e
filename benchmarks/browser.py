"""The Chromium that the page is tested and measured in: found where it is or, when this file is run, provided.

HEADWATER_CHROMIUM names it if it is in none of the usual places.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 300.0  # seconds for each step of an installation
NONE = "there is no Chromium. `make browser` tries to install it, or HEADWATER_CHROMIUM names it"


def find_chromium(downloaded: str) -> Path | None:
    """A browser that starts. `downloaded` is where Playwright keeps its own, if it has one."""
    places = [os.environ.get("HEADWATER_CHROMIUM"), *map(shutil.which, NAMES), downloaded]
    return next((Path(place) for place in places if place and _starts(place)), None)


def _starts(place: str) -> bool:
    """Ubuntu has a chromium that only says which other package to install."""
    try:
        return subprocess.run([place, "--version"], capture_output=True, timeout=60).returncode == 0  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return False


def _try(command: Sequence[str]) -> None:
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(command, stdout=sys.stderr, check=False, timeout=PATIENCE)  # noqa: S603


def installed() -> Path | None:
    """The browser that there is, Playwright's own included."""
    with sync_playwright() as playwright:
        return find_chromium(playwright.chromium.executable_path)


def provide() -> int:
    """Installs it by Debian's packages, as root, or else by Playwright's download. 0 when there is one."""
    ways: list[Sequence[Sequence[str]]] = [[], [[sys.executable, "-m", "playwright", "install", "chromium"]]]
    if os.geteuid() == 0 and shutil.which("apt-get"):
        install = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", "chromium", "fonts-dejavu-core"]
        ways.insert(1, [["apt-get", "update", "-qq"], install])
    for commands in ways:
        for command in commands:
            print("browser:", *command, file=sys.stderr)  # noqa: T201
            _try(command)
        if found := installed():
            print(found)  # noqa: T201
            return 0
    print(f"browser: {NONE}", file=sys.stderr)  # noqa: T201
    return 1


if __name__ == "__main__":
    sys.exit(provide())
