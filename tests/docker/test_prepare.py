"""The one-shot indexer of the containers, as a process of its own."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from headwater_indexer.manifest import Manifest

ROOT = Path(__file__).parents[2]
PREPARE = ROOT / "docker" / "prepare.py"


def environment(data, **settings):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    modules = f"{ROOT / 'examples' / 'demo'}:{os.environ.get('PYTHONPATH', '')}"
    return {**os.environ, "PATH": path, "PYTHONPATH": modules, "HEADWATER_DATA": str(data), **settings}


def prepare(data, **settings):
    return subprocess.run(
        [sys.executable, PREPARE],
        env=environment(data, **settings),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.slow
def test_the_index_of_ones_own_model_is_made_once(tmp_path, checkpoint_folder, corpus_file):
    own = {"HEADWATER_MODEL": str(checkpoint_folder), "HEADWATER_DOCUMENTS": str(corpus_file)}
    first = prepare(tmp_path, **own, HEADWATER_INDEX_OPTIONS="--rank 4 --layers 'mlp, !none'")
    assert first.returncode == 0, first.stderr
    assert Manifest.read(tmp_path / "index").documents == 120
    made = (tmp_path / "index" / "manifest.json").stat().st_mtime_ns
    again = prepare(tmp_path, **own, HEADWATER_INDEX_OPTIONS="--rank 4 --layers 'mlp, !none'")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "index" / "manifest.json").stat().st_mtime_ns == made
    other = prepare(tmp_path, **own, HEADWATER_INDEX_OPTIONS="--rank 2")
    assert (other.returncode, "--overwrite" in other.stderr) == (78, True), other.stderr


def test_half_of_ones_own_is_refused(tmp_path):
    done = prepare(tmp_path, HEADWATER_MODEL="/models/mine")
    assert done.returncode == 78
    assert "HEADWATER_DOCUMENTS" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    done = prepare(tmp_path / "none")
    assert done.returncode == 78
    assert f"{tmp_path / 'none'} cannot be written by user" in done.stderr


def test_sigterm_ends_the_demos_training_and_leaves_nothing_half_made(tmp_path):
    texts = [f"the river {number} feeds the lake" for number in range(200)]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    with subprocess.Popen(
        [sys.executable, PREPARE], env=environment(tmp_path), stderr=subprocess.PIPE, text=True
    ) as process:
        said = next(line for line in process.stderr if "weights" in line)  # train.py says so before its first step
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        assert process.wait(30) == 143, said + rest
    assert "interrupted" in rest
    assert "Traceback" not in rest
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
def test_sigterm_ends_a_build_which_goes_on_the_next_time(tmp_path, checkpoint_folder, large_corpus_file):
    (tmp_path / "corpus.jsonl").write_text("".join(large_corpus_file.read_text().splitlines(keepends=True)[:1500]))
    own = {"HEADWATER_MODEL": str(checkpoint_folder), "HEADWATER_DOCUMENTS": str(tmp_path / "corpus.jsonl")}
    command = {"args": [sys.executable, PREPARE], "env": environment(tmp_path, **own), "text": True}
    with subprocess.Popen(**command, stderr=subprocess.PIPE) as process:
        while not list((tmp_path / "index").glob("gradients/*")):
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        said = process.stderr.read()
        assert process.wait(30) == 130, said
    assert "the same command resumes" in said
    assert "Traceback" not in said
    assert prepare(tmp_path, **own).returncode == 0
    assert Manifest.read(tmp_path / "index").documents == 1500
