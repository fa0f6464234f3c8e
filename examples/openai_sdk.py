"""Ask a language model through the gateway with the OpenAI SDK, and read which training documents made it answer so.

    python examples/openai_sdk.py http://127.0.0.1:8000/v1 MODEL "Who owns the mill?"

The server is `headwater-serve my.index --upstream URL`. Scores are estimates of influence, and no proof.
"""

import sys

from openai import OpenAI


def main(base_url: str, model: str, question: str) -> None:
    client = OpenAI(base_url=base_url, api_key="the server's key, if it has one")
    chat = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        max_tokens=16,
        extra_body={"attribution": {"top_k": 3}},
    )
    print(chat.choices[0].message.content)
    show(chat.attribution)

    print("\nThe same, streamed:")
    stream = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        max_tokens=16,
        stream=True,
        extra_body={"attribution": {"top_k": 3}},
    )
    for chunk in stream:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
        if attribution := getattr(chunk, "attribution", None):  # the last chunk
            print()
            show(attribution)


def show(attribution: dict) -> None:
    if attribution["status"] != "completed":
        print("not attributed:", attribution["error"]["message"])
        return
    for document in attribution["data"]:
        print(f"{document['rank']}. {document['score']:.3g} {document['document_id']}: {document['text'][:60]!r}")


if __name__ == "__main__":
    main(*sys.argv[1:])
