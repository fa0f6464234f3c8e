"""The tables of docs/scale.md are those that the kept results give."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_tables_of_the_page_follow_from_what_was_measured() -> None:
    run = subprocess.run([sys.executable, ROOT / "benchmarks" / "scale.py"], capture_output=True, text=True, check=True)
    page = (ROOT / "docs" / "scale.md").read_text("utf-8")
    tables = run.stdout.strip().split("\n\n")
    assert len(tables) == 2
    for table in tables:
        assert table in page
