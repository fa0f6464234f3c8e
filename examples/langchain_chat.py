"""Ask a language model through the gateway with LangChain, and look the attribution up with Headwater's client.

    python examples/langchain_chat.py http://127.0.0.1:8000 MODEL "Who owns the mill?"

LangChain drops what it does not know of an answer, but shows the headers: the attribution's id is in one of them.
"""

import sys

from langchain_openai import ChatOpenAI

import headwater


def main(base_url: str, model: str, question: str) -> None:
    chat = ChatOpenAI(
        base_url=f"{base_url}/v1",
        api_key="the server's key, if it has one",
        model=model,
        max_tokens=16,
        include_response_headers=True,
        extra_body={"attribution": {"top_k": 3}},
    )
    answer = chat.invoke(question)
    print(answer.content)
    identity = answer.response_metadata["headers"]["x-attribution-id"]
    with headwater.Client(base_url) as client:
        for document in client.attribution(identity).data:
            print(f"{document.rank}. {document.score:.3g} {document.document_id}: {(document.text or '')[:60]!r}")

    whole = None
    for chunk in chat.stream(question):
        whole = chunk if whole is None else whole + chunk
    print("\nThe same, streamed:", whole.content)
    print("Its attribution:", whole.response_metadata["headers"]["x-attribution-id"])


if __name__ == "__main__":
    main(*sys.argv[1:])
