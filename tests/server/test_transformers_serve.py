"""The gateway before a real `transformers serve`, asked by the OpenAI SDK and LangChain, as the examples do it."""

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import openai
import pytest
from transformers import AutoTokenizer

from headwater_indexer.build import build_index
from headwater_indexer.options import BuildOptions

pytestmark = pytest.mark.slow
COMMANDS = Path(sys.executable).parent
EXAMPLES = Path(__file__).parents[2] / "examples"
TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
OPTIONS = {"attribution": {"top_k": 3}}


@pytest.fixture(scope="module")
def chatting(index_folder, tmp_path_factory):
    """A model with a chat template, and its index."""
    folder = tmp_path_factory.mktemp("chatting")
    source = index_folder.parent
    for file in (source / "model").iterdir():
        (folder / "model").mkdir(exist_ok=True)
        (folder / "model" / file.name).write_bytes(file.read_bytes())
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder / "model")
    corpus = str(source / "corpus.jsonl")
    options = BuildOptions(rank=4, moment_tokens=4096)
    build_index(str(folder / "model"), corpus, folder / "my.index", options, device="cpu")
    return folder


@pytest.fixture(scope="module")
def gateway(chatting):
    """The address of `headwater-serve --upstream` before `transformers serve`, each a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    upstream = f"http://127.0.0.1:{port}"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    serve = [COMMANDS / "transformers", "serve", chatting / "model", "--host", "127.0.0.1", "--port", str(port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([*serve, "--device", "cpu"], env=environment, **quiet) as model:
        command = [COMMANDS / "headwater-serve", chatting / "my.index", "--port", "0", "--upstream", upstream]
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as server:
            address = next(re.search(r"http://127\.0\.0\.1:\d+", line)[0] for line in server.stderr if "http:" in line)
            try:
                wait_until_healthy(f"{upstream}/health")
                wait_until_healthy(f"{address}/readyz")
                yield address
            finally:
                server.kill()
                model.kill()


def wait_until_healthy(url):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            if httpx2.get(url, trust_env=False, timeout=5).status_code == 200:
                return
        except httpx2.RequestError:
            pass
        time.sleep(0.3)
    pytest.fail(f"{url} did not answer in 120 s")


@pytest.fixture
def client(gateway):
    with openai.OpenAI(base_url=f"{gateway}/v1", api_key="none", max_retries=0) as client:
        yield client


def ask(client, model, **more):
    messages = [{"role": "user", "content": "The river?"}]
    return client.chat.completions.create(
        model=str(model), messages=messages, max_tokens=8, temperature=0, extra_body=OPTIONS, **more
    )


def test_the_openai_sdk_gets_the_attribution_of_a_chat(client, chatting, gateway):
    chat = ask(client, chatting / "model")
    assert chat.model == f"{chatting / 'model'}@main"
    assert chat.attribution["status"] == "completed", chat.attribution
    asked = {"prompt": "user: The river?\nassistant:", "response": chat.choices[0].message.content, "top_k": 3}
    direct = httpx2.post(f"{gateway}/v1/attribute", json=asked, trust_env=False).json()
    assert [hit["document_id"] for hit in chat.attribution["data"]] == [hit["document_id"] for hit in direct["data"]]


def test_the_openai_sdk_gets_a_stream_with_the_attribution_last(client, chatting):
    *chunks, last = list(ask(client, chatting / "model", stream=True))
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    whole = ask(client, chatting / "model").choices[0].message.content
    assert said  # the upstream's streams leave half a character at the end out
    assert whole.startswith(said)
    assert (last.choices[0].delta.content, last.attribution["status"]) == (None, "completed")


def test_completions_are_attributed(client, chatting):
    done = client.completions.create(
        model=str(chatting / "model"), prompt="The river", max_tokens=8, extra_body=OPTIONS
    )
    assert done.attribution["status"] == "completed", done.attribution


def test_a_chat_that_does_not_ask_has_no_attribution(client, chatting):
    messages = [{"role": "user", "content": "The river?"}]
    chat = client.chat.completions.create(model=str(chatting / "model"), messages=messages, max_tokens=4)
    assert not hasattr(chat, "attribution")


@pytest.mark.parametrize(("example", "base"), [("openai_sdk.py", "/v1"), ("langchain_chat.py", "")])
def test_the_examples_run(gateway, chatting, example, base):
    command = [sys.executable, EXAMPLES / example, gateway + base, chatting / "model", "The river?"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^1\. \S+ river/\d+: '", done.stdout, flags=re.MULTILINE)
    assert "The same, streamed:" in done.stdout
