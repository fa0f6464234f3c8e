"""What a release is made of: a CycloneDX bill of materials of `headwater[server,cpu]`, with versions and licences.

    python release/sbom.py dist/headwater.cdx.json      # or `make sbom`

cyclonedx-bom describes the whole environment; what only developers need is left out here.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
RELEASED = "headwater[server,cpu]"


def needed(requirement: str, found: set[str] | None = None) -> set[str]:
    """The names of all packages that a requirement brings, itself included, as they are installed here."""
    found = set() if found is None else found  # names, and `name[extras]` of what has been looked into
    wanted = Requirement(requirement)
    name = canonicalize_name(wanted.name)
    looked_into = f"{name}[{','.join(sorted(wanted.extras))}]"
    if looked_into not in found:
        found |= {looked_into, name}
        for line in _requirements(wanted):
            needed(line, found)
    return {name for name in found if "[" not in name}


def _requirements(wanted: Requirement) -> Iterator[str]:
    try:
        lines = requires(wanted.name) or []
    except PackageNotFoundError:
        sys.exit(f"{wanted.name} is not installed here: run `make environment` first")
    for line in lines:
        marker = Requirement(line).marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in wanted.extras or {""}):
            yield line


def only(bill: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """The bill with these components alone, and the edges between them."""
    components = [part for part in bill["components"] if canonicalize_name(part["name"]) in names]
    kept = {part["bom-ref"] for part in components} | {bill["metadata"]["component"]["bom-ref"]}
    edges = [
        {**edge, "dependsOn": [ref for ref in edge.get("dependsOn", []) if ref in kept]}
        for edge in bill["dependencies"]
        if edge["ref"] in kept
    ]
    return {**bill, "components": components, "dependencies": edges}


def main(out: Path) -> None:
    """Write the bill."""
    command = ["-m", "cyclonedx_py", "environment", "--pyproject", str(ROOT / "pyproject.toml"), "--of", "JSON"]
    made = subprocess.run([sys.executable, *command, sys.executable], capture_output=True, text=True, check=True)
    bill = only(json.loads(made.stdout), needed(RELEASED) - {"headwater"})
    bill["metadata"]["component"]["version"] = version("headwater")  # from the tag: pyproject.toml does not say it
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(bill, indent=1) + "\n")
    print(f"{out}: {len(bill['components'])} components", file=sys.stderr)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
