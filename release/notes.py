"""The notes of a release: its section of CHANGELOG.md, on stdout.

python release/notes.py 0.2.0       # or `make release-notes VERSION=0.2.0`
python release/notes.py             # what is unreleased
"""

import re
import sys
from pathlib import Path

CHANGELOG = Path(__file__).parents[1] / "CHANGELOG.md"


def notes(changelog: str, version: str) -> str:
    """The lines below the heading of a version (`## 0.2.0 - 2026-12-01`), which may be written with a `v` before it.

    Raises ValueError where there is no such heading, or nothing below it.
    """
    sections = re.split(r"^## ", changelog, flags=re.MULTILINE)[1:]
    by_name = {re.split(r"[ \n]", section)[0].strip("[]"): section.partition("\n")[2].strip() for section in sections}
    name = version.removeprefix("v")
    if name not in by_name:
        raise ValueError(f"CHANGELOG.md has no section {name!r}: it has {', '.join(by_name)}")
    if not by_name[name]:
        raise ValueError(f"the section {name!r} of CHANGELOG.md is empty: say what a user notices")
    return by_name[name]


def main() -> None:
    try:
        print(notes(CHANGELOG.read_text("utf-8"), *(sys.argv[1:] or ["Unreleased"])))
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
