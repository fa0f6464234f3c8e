"""The page as a browser sees it: first paint, what moves, where it asks, what it weighs; and Lighthouse, if found.

python benchmarks/page.py [--quick]         # LIGHTHOUSE names the command if it is not on the path
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from browser import NONE, find_chromium
from measuring import described
from playwright.sync_api import Browser, Page, sync_playwright
from serving import Served, questions, serving, write_index

FIRST_PAINT = 1000.0  # milliseconds at most, from this machine
SCORE = 95  # of Lighthouse, at least
CATEGORIES = ("accessibility", "best-practices")
WIDTHS = {"phone": (360, 740), "desk": (1440, 900)}

WATCH = """
    window.shifted = 0;
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifted += entry.value;
    }).observe({ type: "layout-shift", buffered: true });
"""
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
LOADED = "[performance.getEntriesByType('navigation')[0], ...performance.getEntriesByType('resource')]"


def measure(browser: Browser, served: Served, question: dict[str, str], size: tuple[int, int]) -> dict[str, Any]:
    """One visit with nothing cached: the page is opened, asked once, and left when all is drawn and shaded."""
    origin = f"http://{served.host}:{served.port}"
    elsewhere: list[str] = []
    errors: list[str] = []
    with browser.new_context(viewport={"width": size[0], "height": size[1]}) as context:
        page = context.new_page()
        page.add_init_script(WATCH)
        page.on("request", lambda asked: None if asked.url.startswith(origin) else elsewhere.append(asked.url))
        page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        page.goto(origin, wait_until="networkidle")
        weight = page.evaluate(f"{LOADED}.reduce((sum, entry) => sum + entry.transferSize, 0)")
        requests = page.evaluate(f"{LOADED}.length")
        _ask(page, question)
        return {
            "first_paint_ms": round(page.evaluate(PAINTED), 1),
            "layout_shift": round(page.evaluate("window.shifted"), 4),
            "other_origins": len(elsewhere),
            "console_errors": len(errors),
            "requests": requests,
            "bytes": weight,
        }


def _ask(page: Page, question: dict[str, str]) -> None:
    page.get_by_label("Prompt").fill(question["prompt"])
    page.get_by_label("Answer", exact=True).fill(question["response"])
    page.get_by_role("button", name="Find the documents").click()
    page.get_by_text("Shaded by what document 1 does").wait_for(timeout=120_000)
    page.wait_for_timeout(300)


def lighthouse(command: str, chromium: Path, served: Served, folder: Path) -> dict[str, int]:
    """Its scores of the page, 0 to 100. Raises RuntimeError with what it said if it gives none."""
    report = folder / "lighthouse.json"
    flags = ["--headless=new", "--no-sandbox"]
    words = [command, f"http://{served.host}:{served.port}/", "--quiet", "--output=json", f"--output-path={report}"]
    words += [f"--only-categories={','.join(CATEGORIES)}", f"--chrome-flags={' '.join(flags)}"]
    run = subprocess.run(  # noqa: S603
        words, env={**os.environ, "CHROME_PATH": str(chromium)}, capture_output=True, text=True, check=False
    )
    if run.returncode or not report.exists():
        raise RuntimeError(f"lighthouse failed: {run.stderr[-2000:]}")
    found = json.loads(report.read_text("utf-8"))["categories"]
    return {name: round(100 * found[name]["score"]) for name in CATEGORIES}


def summed(visits: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of times, and the worst of what may not be at all."""
    median = {"first_paint_ms": statistics.median(visit["first_paint_ms"] for visit in visits)}
    worst: Callable[[str], Any] = lambda name: max(visit[name] for visit in visits)  # noqa: E731
    return median | {name: worst(name) for name in visits[0] if name != "first_paint_ms"}


def falls_short(report: dict[str, Any]) -> list[str]:
    found = []
    for name, visit in report["visits"].items():
        if visit["first_paint_ms"] > FIRST_PAINT:
            found.append(f"{name}: the first paint comes after {visit['first_paint_ms']:.0f} ms, not {FIRST_PAINT:.0f}")
        found += [
            f"{name}: {fault} is {visit[fault]}, not 0" for fault in ("layout_shift", "other_origins") if visit[fault]
        ]
        if visit["console_errors"]:
            found.append(f"{name}: the browser's console has {visit['console_errors']} errors")
    for name, score in (report["lighthouse"] or {}).items():
        if score < SCORE:
            found.append(f"Lighthouse gives {score} for {name}, not {SCORE}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one visit of each size")
    quick = parser.parse_args().quick
    visits_each = 1 if quick else 5
    command = os.environ.get("LIGHTHOUSE") or shutil.which("lighthouse")
    with tempfile.TemporaryDirectory() as kept, sync_playwright() as playwright:
        chromium = find_chromium(playwright.chromium.executable_path)
        if chromium is None:
            sys.exit(f"nothing can be measured: {NONE}")
        index = write_index(Path(kept), documents=100)
        [question] = questions(Path(kept) / "corpus.jsonl", 1)
        browser = playwright.chromium.launch(executable_path=chromium)
        with serving(index) as served:
            visits = {
                name: summed([measure(browser, served, question, size) for _ in range(visits_each)])
                for name, size in WIDTHS.items()
            }
            scores = lighthouse(command, chromium, served, Path(kept)) if command else None
        report: dict[str, Any] = {
            **described(torch.device("cpu")),
            "browser": browser.version,
            "visits_of_each": visits_each,
        }
        report |= {"visits": visits, "lighthouse": scores}
        browser.close()
    report["falls_short"] = falls_short(report)
    print(json.dumps(report, indent=1))  # noqa: T201
    return 1 if report["falls_short"] else 0


if __name__ == "__main__":
    sys.exit(main())
