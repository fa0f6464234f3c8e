"""Ask a Headwater server which training documents made a model say something. Needs `pip install headwater` alone.

    python examples/ask.py "The with statement is used to" " wrap the execution of a block"

The server is at HEADWATER_BASE_URL, or http://127.0.0.1:8000. Scores are estimates of influence, and no proof.
"""

import sys

import headwater


def main(prompt: str, response: str) -> None:
    with headwater.Client() as client:
        likelier = client.attribute(prompt=prompt, response=response, top_k=3)
        less_likely = client.attribute(prompt=prompt, response=response, top_k=3, sign="negative")
    print(f"{likelier.model}, {likelier.index.documents} documents, {likelier.timings_ms.total:.0f} ms")
    show("Made the response likelier:", likelier)
    show("Made it less likely:", less_likely)
    print("\nCredit of the first three by source:")
    for source in likelier.sources:
        print(f"{source.share:4.0%} {source.source or 'no source'}")


def show(heading: str, answer: headwater.Attribution) -> None:
    print(f"\n{heading}")
    for document in answer.data:
        print(f"{document.rank}. {document.score:8.3g} {document.document_id}: {(document.text or '')[:60]!r}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except headwater.RateLimitError as error:
        sys.exit(f"The server is busy: ask again in {error.retry_after or 1:.0f} s")
    except headwater.APIError as error:
        sys.exit(str(error))
