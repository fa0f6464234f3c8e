"""The examples run as they stand; tests/server/test_transformers_serve.py runs those that want a language model."""

import os
import re
import subprocess
import sys

from doc_blocks import ROOT

QUESTION = ["The with statement is used to", " wrap the execution of a block"]


def ask(python, address):
    command = [python, ROOT / "examples" / "ask.py", *QUESTION]
    environment = os.environ | {"HEADWATER_BASE_URL": f"http://{address}"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_a_question_by_the_sdk(address):
    done = ask(sys.executable, address)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^[123]\. +\S+ doc-\d+: 'The ", done.stdout, flags=re.MULTILINE)) == 6
    assert re.search(r"^ *\d+% book \d$", done.stdout, flags=re.MULTILINE)


def test_no_server_is_one_sentence():
    done = ask(sys.executable, "127.0.0.1:9")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "127.0.0.1:9" in done.stderr
