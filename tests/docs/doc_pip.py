"""In place of `pip install 'headwater[extras]'` on a page: is each extra declared, and satisfied here?

The real installation, into an empty environment, is tests/docs/test_package.py's.
"""

import sys
from importlib.metadata import distribution, version

from packaging.requirements import Requirement

ELSEWHERE = ("faiss-gpu",)  # never installed beside faiss-cpu


def main(arguments: list[str]) -> None:
    command, *wanted = arguments
    if command != "install" or not wanted:
        sys.exit(f"a page says `pip {' '.join(arguments)}`: teach tests/docs/doc_pip.py what that is")
    for requirement in map(Requirement, wanted):
        if requirement.name == "headwater":
            check_extras(requirement.extras)
        else:
            version(requirement.name)


def check_extras(extras: set[str]) -> None:
    declared = distribution("headwater").metadata.get_all("Provides-Extra") or []
    for extra in extras:
        if extra not in declared:
            sys.exit(f"headwater has no extra {extra!r}: {', '.join(declared)}")
        for line in distribution("headwater").requires or []:
            needed = Requirement(line)
            chosen = needed.marker is not None and needed.marker.evaluate({"extra": extra})
            if chosen and needed.name not in (*ELSEWHERE, "headwater"):
                version(needed.name)


if __name__ == "__main__":
    main(sys.argv[1:])
