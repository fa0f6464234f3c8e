#!/usr/bin/env bash
# docker/locks/ anew (`make locks`): every package of the images at the version of constraints.txt, with the SHA-256 of its
# files. The CPU build of torch is not on PyPI but on PyTorch's own index, or in a folder that PIP_FIND_LINKS names.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -n "${PIP_FIND_LINKS:-}" ]; then
    torch_source="--find-links $PIP_FIND_LINKS"
else
    torch_source="--extra-index-url https://download.pytorch.org/whl/cpu --index-strategy unsafe-best-match"
fi
new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT

# Only x86-64 Linux: it is what PyTorch's CPU wheel of the lock is for.
compile() {
    uv pip compile --quiet --generate-hashes --no-annotate --no-header \
        --python-version 3.11 --python-platform x86_64-manylinux_2_28 --constraint constraints.txt "$@"
}

extras() {
    printf -- '--extra %s ' server telemetry adapters "$@"
}

# shellcheck disable=SC2086,SC2046
compile pyproject.toml docker/image.in $(extras cpu) $torch_source --output-file "$new/cpu.txt"
# shellcheck disable=SC2046
compile pyproject.toml docker/image.in $(extras gpu datasets large) --output-file "$new/gpu.txt"

# `transformers serve` is run from the CPU image with these in addition.
# shellcheck disable=SC2086
echo 'transformers[serving]' | compile - --constraint "$new/cpu.txt" $torch_source --output-file "$new/with-serving.txt"
python3 - "$new" > "$new/serving.txt" <<'PYTHON'
import re
import sys
from pathlib import Path

folder = Path(sys.argv[1])
locked = {name: re.split(r"\n(?=\S)", (folder / f"{name}.txt").read_text().strip()) for name in ("cpu", "with-serving")}
there = {entry.partition("==")[0] for entry in locked["cpu"]}
print("\n".join(entry for entry in locked["with-serving"] if entry.partition("==")[0] not in there))
PYTHON

python3 -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' |
    compile - --output-file "$new/build.txt"

for lock in cpu gpu serving build; do
    { echo '# Made by docker/lock.sh.'; cat "$new/$lock.txt"; } > "docker/locks/$lock.txt"
done
