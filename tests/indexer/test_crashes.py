"""Real kills of every change of an index: what is left is the version before or the one after, whole."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "crashes.py"


def test_changes_that_are_killed_lose_nothing() -> None:
    command = [sys.executable, SCRIPT, "--kills", "1", "--every", "90", "--kind", "codes", "--seed", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout or "{}")
    assert report.get("falls_short") == [], (report.get("falls_short"), done.stderr[-2000:])
    for change in ("build", "append", "remove", "compact", "build anew"):
        found = report["changes"][f"{change}, codes"]
        assert found["at random"]["kills"] == 1
        at_steps = found["at every step"]
        assert at_steps["kills"] == at_steps["old"] + at_steps["new"] > 0
    assert report["changes"]["compact, codes"]["at every step"]["old"] > 0
