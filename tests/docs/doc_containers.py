"""Commands of containers on a page: what they name is there. Where an engine is, docker/verify.sh does it for real."""

import re
import shlex
from itertools import pairwise
from pathlib import Path

import typer
import yaml

from headwater_indexer.cli import app as indexer

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
COMPOSE = (ROOT / "docker" / "compose.yaml").read_text()
PROFILES = {profile for service in yaml.safe_load(COMPOSE)["services"].values() for profile in service["profiles"]}
IMAGES = set(re.findall(r"image: (headwater:\S+)", COMPOSE))


def check_container_commands(text: str, _: Path) -> None:
    """Raises AssertionError with the word that is wrong."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line)
        match words[:2]:
            case ["docker", "compose"]:
                _check_compose(words[2:])
            case ["docker", "build"]:
                _check_build(words[2:])
            case ["docker", "run"]:
                _check_run(words[2:])
            case ["kubectl", _]:
                _check_kubectl(words[1:])
            case ["export", *_]:
                assert all(word.partition("=")[0] in COMPOSE for word in words[1:]), line
            case _:
                assert (ROOT / words[0]).is_file(), line


def _after(words: list[str], *options: str) -> list[str]:
    return [after for word, after in pairwise(words) if word in options]


def _check_compose(words: list[str]) -> None:
    assert _after(words, "-f") == ["docker/compose.yaml"]
    assert set(_after(words, "--profile")) <= PROFILES, words
    assert set(words) & {"up", "down"}, words


def _check_build(words: list[str]) -> None:
    assert (ROOT / _after(words, "-f")[0]).is_file(), words
    assert set(_after(words, "-t")) <= IMAGES, words
    assert set(_after(words, "--target")) <= set(re.findall(r"^FROM \S+ AS (\S+)", DOCKERFILE, flags=re.MULTILINE)), (
        words
    )
    arguments = set(re.findall(r"^ARG (\w+)", DOCKERFILE, flags=re.MULTILINE))
    assert {word.partition("=")[0] for word in _after(words, "--build-arg")} <= arguments, words


def _check_run(words: list[str]) -> None:
    number, image = next((number, word) for number, word in enumerate(words) if word.startswith("headwater"))
    assert image in IMAGES, words
    inside = words[number + 1 :]
    if inside:
        assert inside[:2] == ["headwater-index", "build"], words
        build = typer.main.get_command(indexer).commands["build"]  # type: ignore[attr-defined]
        known = {option for parameter in build.params for option in parameter.opts}
        assert {word for word in inside if word.startswith("--")} <= known, words


def _check_kubectl(words: list[str]) -> None:
    for folder in _after(words, "-k"):
        assert (ROOT / folder / "kustomization.yaml").is_file(), words
    for service in [word.partition("/")[2] for word in words if word.startswith("service/")]:
        assert f"name: {service}\n" in (ROOT / "docker" / "kubernetes" / "cpu" / "server.yaml").read_text(), words
