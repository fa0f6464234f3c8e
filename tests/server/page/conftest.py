"""A real Chromium before a real server: every page that a test opens must stay within its origin and log no error.

HEADWATER_SCREENSHOTS names a folder that the pictures are kept in.
"""

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from browser import NONE, find_chromium
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

from headwater_indexer.build import build_index
from headwater_indexer.index import Index
from headwater_indexer.options import BuildOptions

NO_BROWSER = f"NO TEST OF THE PAGE RUNS: {NONE}."
MACHINE_CHANGED = "ERR_NETWORK_CHANGED"  # a container beside the tests began or ended: Chromium gives up what it loads
PROMPT, RESPONSE = "The river", " floods a lake in year 1913"

HTML = "<script>document.title = 'run'</script><img src=x onerror=\"document.title = 'run'\"><b>in a lake</b> & more"
ARABIC = "النهر يفيض على البحيرة"
EMOJI = "🌊 the 👩‍👩‍👧 lake floods 🦊"
BOOKS = ["book 0", "book 1", "book 2", None]


@pytest.fixture(scope="module")  # no longer: while it is there, no other test can have an event loop
def launch() -> Iterator[Callable[[], Browser]]:
    with sync_playwright() as playwright:
        found = find_chromium(playwright.chromium.executable_path)
        if found is None:
            warnings.warn(NO_BROWSER, stacklevel=1)
            pytest.skip(NO_BROWSER)
        yield lambda: playwright.chromium.launch(executable_path=found)


@pytest.fixture
def chromium(launch: Callable[[], Browser]) -> Iterator[Browser]:
    """One for each test: the end of a browser is bounded, by killing it, where that of a context may wait for ever."""
    browser = launch()
    yield browser
    browser.close()


@dataclass
class Watched:
    """What a page does that it must not."""

    elsewhere: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()  # parts of errors that a test brings about

    def follow(self, page: Page, origin: str) -> None:
        def asked(request: Request) -> None:
            if not request.url.startswith((origin, "data:", "blob:")):
                self.elsewhere.append(request.url)

        page.on("request", asked)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)

    def check(self) -> None:
        assert self.elsewhere == []
        expected = (*self.expected, MACHINE_CHANGED)
        assert [error for error in self.errors if not any(part in error for part in expected)] == []


@pytest.fixture
def watched() -> Iterator[Watched]:
    watched = Watched()
    yield watched
    watched.check()


@pytest.fixture
def visit(chromium: Browser, watched: Watched) -> Callable[..., Page]:
    """`visit(server, "#fragment", width=..., ...)` opens the page; `window.shifted` names what moved by itself."""

    def open_page(server: Any, fragment: str = "", *, width: int = 1280, height: int = 900, **options: Any) -> Page:
        context = chromium.new_context(
            viewport={"width": width, "height": height},
            reduced_motion="reduce",
            base_url=str(server.client.base_url),
            **options,
        )
        context.set_default_timeout(10_000)
        page = context.new_page()
        page.add_init_script(NOTE_SHIFTS)
        watched.follow(page, str(server.client.base_url))
        page.goto(f"/{fragment}", wait_until="load")
        if any(MACHINE_CHANGED in error for error in watched.errors):
            page.reload()
        return page

    return open_page


NOTE_SHIFTS = """
    window.shifted = [];
    const name = ({ node }) => (node?.outerHTML ?? node?.textContent ?? "").slice(0, 120);
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifted.push(entry.sources.map(name));
    }).observe({ type: "layout-shift", buffered: true });
"""


@pytest.fixture(scope="session")
def shoot(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Page, str], None]:
    """Keeps a picture of the page, for people to look at."""
    folder = Path(os.environ.get("HEADWATER_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)

    def keep(page: Page, name: str) -> None:
        page.screenshot(path=folder / f"{name}.png")

    return keep


@pytest.fixture(scope="session")
def books(index_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real index that explains, of 24 documents: a long one, one of HTML, one from right to left, one of emoji."""
    folder = tmp_path_factory.mktemp("books")
    rivers = [f"The river {n} floods a lake in year {1900 + n}, and {n} boats went by." for n in range(21)]
    rivers[5] = " ".join(rivers[5:15])
    with (folder / "corpus.jsonl").open("w") as corpus:
        for n, text in enumerate([*rivers, HTML, ARABIC, EMOJI]):
            record = {"id": f"river/{n}", "text": text, "source": BOOKS[n % 4], "page": n}
            corpus.write(json.dumps({name: value for name, value in record.items() if value is not None}) + "\n")
    options = BuildOptions(rank=4, moment_tokens=4096, factors=True)
    model = str(index_folder.parent / "model")
    build_index(model, str(folder / "corpus.jsonl"), folder / "books.index", options, device="cpu")
    return folder / "books.index"


@pytest.fixture
def open_books(books: Path) -> Callable[[], Index]:
    return lambda: Index.open(books, device="cpu")


@pytest.fixture(scope="module")
def library(books: Path, served: Callable[..., Any]) -> Iterator[Any]:
    """A server of that index."""
    with served({"default": lambda: Index.open(books, device="cpu")}) as server:
        yield server


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    """A language model's endpoint; the name of the model says how it behaves."""
    script = Path(__file__).parent.parent / "scripted_upstream.py"
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.kill()


@pytest.fixture
def paste() -> Callable[..., None]:
    """Fills the form in and asks."""

    def fill(page: Page, response: str = RESPONSE, prompt: str = PROMPT) -> None:
        expect(page.locator("#served")).not_to_be_empty()
        page.get_by_text("Paste an answer").click()
        page.get_by_label("Prompt").fill(prompt)
        page.get_by_label("Answer", exact=True).fill(response)
        page.get_by_role("button", name="Find the documents").click()

    return fill


@pytest.fixture
def find(paste: Callable[..., None]) -> Callable[..., None]:
    """Asks, and waits for the documents and the shades of the first one."""

    def ask(page: Page, response: str = RESPONSE, prompt: str = PROMPT) -> None:
        paste(page, response, prompt)
        page.locator(".documents").first.wait_for()
        page.get_by_text("Shaded by what document 1 does").wait_for()

    return ask
