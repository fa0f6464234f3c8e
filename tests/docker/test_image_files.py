"""What the images are built from: a Dockerfile that hadolint passes, packages by their hashes, and named files."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
COMMANDS = Path(sys.executable).parent
LOCKS = sorted((DOCKER / "locks").glob("*.txt"))
ENTRY = re.compile(r"^([a-z0-9._-]+)(?:\[[a-z,]+\])?==(\S+) (?:; .* )?\\$")


def entries(lock):
    """(name, version, hashes) of each package; a line that is none of theirs is an error."""
    found = []
    for line in lock.read_text().splitlines():
        if line.startswith("#"):
            continue
        if entry := ENTRY.match(line):
            found.append((entry[1], entry[2], []))
        else:
            found[-1][2].append(re.fullmatch(r"    --hash=sha256:([0-9a-f]{64})(?: \\)?", line)[1])
    return found


def test_hadolint_has_no_complaint():
    done = subprocess.run([COMMANDS / "hadolint", DOCKER / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_every_package_of_a_lock_has_a_version_and_hashes(lock):
    found = entries(lock)
    assert len(found) > 2
    assert all(hashes for _, _, hashes in found)


@pytest.mark.parametrize("lock", ["cpu", "gpu", "serving"])
def test_the_locks_have_the_versions_that_the_tests_ran_with(lock):
    pinned = dict(re.findall(r"^([^#=\s]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE))
    pinned = {name.lower().replace("_", "-"): version for name, version in pinned.items()}
    locked = {name: version.partition("+")[0] for name, version, _ in entries(DOCKER / "locks" / f"{lock}.txt")}
    both = locked.keys() & pinned.keys()
    assert len(both) > 0.9 * len([name for name in locked if not name.startswith(("nvidia-", "cuda-", "triton"))])
    others = {name: (locked[name], pinned[name]) for name in both if locked[name] != pinned[name]}
    assert not others, f"docker/locks and constraints.txt differ: run `make locks` {others}"


def test_the_locks_hold_what_the_images_need():
    cpu, gpu, serving = (
        {name for name, *_ in entries(DOCKER / "locks" / f"{lock}.txt")} for lock in ("cpu", "gpu", "serving")
    )
    assert {"torch", "faiss-cpu", "fastapi", "uvicorn", "transformers"} <= cpu
    assert {"torch", "faiss-gpu", "fastapi", "bitsandbytes", "pyarrow"} <= gpu
    assert "faiss-gpu" not in cpu
    assert not [name for name in cpu if name.startswith("nvidia-")]
    assert "openai" in serving
    assert not serving & cpu
    assert not {"pytest", "mypy", "ruff"} & (cpu | gpu | serving)


def test_only_what_is_named_goes_to_the_build():
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    named = [line[1:] for line in lines if line.startswith("!")]
    assert all((ROOT / name).exists() for name in named)
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (DOCKER / "Dockerfile").read_text(), flags=re.MULTILINE)
    for source in " ".join(copied).split():
        assert any(name.startswith(source.rstrip("/")) or source.startswith(f"{name}/") for name in named), source


def test_no_registry_but_the_public_ones_is_named():
    text = "".join(file.read_text() for file in DOCKER.rglob("*") if file.is_file() and file.suffix != ".json")
    hosts = set(re.findall(r"https?://([a-z0-9.-]+\.[a-z]+)", text))
    assert hosts <= {"pypi.org", "download.pytorch.org"}, hosts
