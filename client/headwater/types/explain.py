"""Which tokens the influence of a document on a response is made of."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints

from headwater.types.attribution import Asked, IndexRef, Refine, Timings, Usage
from headwater.types.base import Answer


class ExplainRequest(Asked):
    """Which tokens of these documents made which tokens of the response likelier?"""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"prompt": "To be,", "response": " or not to be", "document_ids": ["hamlet-3-1"]}]
        }
    )

    document_ids: list[Annotated[str, StringConstraints(min_length=1, max_length=1024)]] = Field(
        min_length=1, max_length=32, description="The documents to explain.", examples=[["hamlet-3-1"]]
    )
    refine: Refine = 0


class TokenInfluence(Answer):
    """A token and its share of the influence."""

    text: str = Field(description="The token's piece of the text.", examples=[" be"])
    start: int | None = Field(
        default=None,
        description="Its first character, in code points of the document's text or of the response; null for a token "
        "from elsewhere, such as a prompt's.",
        examples=[5],
    )
    stop: int | None = Field(default=None, description="The character after its last.", examples=[8])
    influence: float = Field(description="Its share; the shares of each side sum to the score.", examples=[0.7])


class DocumentExplanation(Answer):
    """One document's influence, split over the tokens of both sides."""

    document_id: str = Field(description="The document's id.", examples=["hamlet-3-1"])
    score: float = Field(description="Estimated influence, by unprojected gradients.", examples=[12.4])
    document: list[TokenInfluence] = Field(description="What each token of the document adds.")
    response: list[TokenInfluence] = Field(description="The document's influence on each token of the response.")


class Explanation(Answer):
    """The tokens that influence is made of. Influence is an estimate, and no proof."""

    object: Literal["explanation"] = "explanation"
    model: str = Field(description="The model whose training is asked about.", examples=["openai-community/gpt2"])
    index: IndexRef
    usage: Usage
    timings_ms: Timings
    data: list[DocumentExplanation] = Field(description="One for each document, in the order asked.")
