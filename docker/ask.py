"""Asks a server in front of a language model, as its users do: by the SDK, through the gateway, and for its page.

    python docker/ask.py http://127.0.0.1:8000 --patience 600

Prints one JSON object with what it found and how long it waited; exits 1 with a sentence where an answer is wrong.
"""

import json
import time
from typing import Annotated, Any

import httpx2
import openai
import typer

import headwater

PROMPT = 'The "with" statement is used to wrap the execution of a block with'
RESPONSE = " methods defined by a context manager."


def main(
    url: Annotated[str, typer.Argument(help="The server's address.")],
    patience: Annotated[float, typer.Option(help="Seconds until it has to be ready.")] = 600,
) -> None:
    """Ask, and print what was answered."""
    waited = wait_until_ready(url, patience)
    with headwater.Client(base_url=url) as client:
        index = client.index()
        asked = time.monotonic()
        answer = client.attribute(prompt=PROMPT, response=RESPONSE, top_k=5)
        seconds = time.monotonic() - asked
        require(len(answer.data) == 5, f"5 documents were asked, {len(answer.data)} came")
        if index.chat is None or not index.chat.messages:
            raise SystemExit("ask: there is no language model behind the gateway, or it has no chat template")
        chat = ask_the_model(url, index.chat.model, patience)
        kept = client.attribution(chat["attribution"]["id"])
        same = [hit["document_id"] for hit in chat["attribution"]["data"]]
        require([hit.document_id for hit in kept.data] == same, "the kept attribution is another than the chat's")
    page = httpx2.get(url, trust_env=False)
    require(page.status_code == 200 and "<title>" in page.text, f"the page answered {page.status_code}")
    found = {
        "ready_after_seconds": round(waited, 1),
        "documents": index.documents,
        "attribute_seconds": round(seconds, 2),
        "first": answer.data[0].document_id,
        "said": chat["choices"][0]["message"]["content"],
        "said_because_of": same,
    }
    print(json.dumps(found, indent=2))


def wait_until_ready(url: str, patience: float) -> float:
    """Seconds until /readyz said 200."""
    began = time.monotonic()
    while time.monotonic() - began < patience:
        try:
            if httpx2.get(f"{url}/readyz", trust_env=False, timeout=5).status_code == 200:
                return time.monotonic() - began
        except httpx2.TransportError:
            pass
        time.sleep(0.5)
    raise SystemExit(f"ask: {url} was not ready within {patience:.0f} s")


def ask_the_model(url: str, model: str, patience: float) -> dict[str, Any]:
    """A chat with its attribution, by the OpenAI SDK; waited for while the language model still loads."""
    deadline = time.monotonic() + patience
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        while True:
            try:
                chat = client.chat.completions.create(
                    model=model,
                    messages=[{"role": "user", "content": PROMPT}],
                    max_tokens=24,
                    temperature=0,
                    extra_body={"attribution": {"top_k": 5}},
                )
                break
            except openai.APIStatusError as error:
                if error.status_code not in (502, 503) or time.monotonic() > deadline:
                    raise SystemExit(f"ask: the chat failed: {error}") from None
                time.sleep(1)
    said = chat.model_dump()
    require(bool(said["choices"][0]["message"]["content"]), "the language model said nothing")
    require(said["attribution"]["status"] == "completed", f"the chat has no attribution: {said['attribution']}")
    return said


def require(holds: bool, sentence: str) -> None:
    if not holds:
        raise SystemExit(f"ask: {sentence}")


if __name__ == "__main__":
    typer.run(main)
