"""The question which documents made a model say that, and its answer."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, JsonValue, model_validator

from headwater.types.base import Answer, IndexName, Question
from headwater.types.filters import Filters

Score = Literal["relatif", "influence", "cosine"]
Sign = Literal["positive", "negative"]
Part = Literal["text", "metadata"]
Finder = Literal["influence", "bm25", "hidden-states"]
Refine = Annotated[
    int,
    Field(
        ge=0,
        le=5,
        strict=True,
        description="Steps of conjugate gradients past EK-FAC. Each is slow; the scores are then of another scale.",
    ),
]


class Message(Question):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"] = Field(description="Who speaks.")
    content: str = Field(description="What is said.", examples=["Who wrote this sonnet?"])


class Span(Question):
    """Characters of the response, counted in Unicode code points. A token counts if it overlaps them."""

    start: int = Field(ge=0, strict=True, description="The first character, counted from 0.", examples=[14])
    stop: int = Field(ge=1, strict=True, description="The character after the last.", examples=[27])

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.start >= self.stop:
            raise ValueError("a span has a `start` below its `stop`")
        return self


class Asked(Question):
    """What every question about a response has."""

    prompt: str | None = Field(
        default=None,
        description="Text before the response, exactly as the model saw it. Give this or `messages`.",
        examples=["To be, or not to be, that is"],
    )
    messages: list[Message] | None = Field(
        default=None,
        min_length=1,
        description="The conversation before the response; it goes through the model's chat template.",
    )
    response: str = Field(
        min_length=1,
        description="The text whose origin is asked for, as the model wrote it.",
        examples=[" the question: whether 'tis nobler in the mind to suffer"],
    )
    span: Span | None = Field(
        default=None,
        description="Ask about these characters of the response alone; the rest of it is context. The part asked about "
        "is whole tokens, and may begin and end some characters outside the span.",
    )
    index: IndexName = "default"

    @model_validator(mode="after")
    def _one_of_prompt_and_messages(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give exactly one of `prompt` and `messages`")
        return self

    @model_validator(mode="after")
    def _span_within_response(self) -> Self:
        if self.span is not None and self.span.stop > len(self.response):
            raise ValueError(f"the span ends beyond the response, which has {len(self.response)} characters")
        return self


class AttributeRequest(Asked):
    """Which training documents made the model give this response to this prompt?"""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"prompt": "To be, or not to be, that is", "response": " the question"}]}
    )

    top_k: int = Field(default=10, ge=1, le=1000, strict=True, description="How many documents to return.")
    method: Finder = Field(
        default="influence",
        description="`influence`, or a baseline to compare with: `bm25` by words in common, `hidden-states` by the "
        "model's own states, where the index has them. A baseline's scores are its own.",
    )
    score: Score = Field(
        default="relatif",
        description="`influence` is the plain estimate; `relatif` divides it by the document's own size, so that "
        "outliers do not lead every list; `cosine` ranks as `relatif` does, on a scale common to all questions.",
    )
    sign: Sign = Field(
        default="positive",
        description="`positive` asks for the documents that made the response likelier, `negative` for those "
        "that made it less likely.",
    )
    filters: Filters | None = Field(
        default=None,
        description="Search only the documents that pass. The answer is exact also when few do, and shorter than "
        "`top_k` when fewer do.",
        examples=[{"must": [{"key": "metadata.year", "range": {"gte": 1900, "lt": 2000}}]}],
    )
    include: list[Part] = Field(
        default=["text", "metadata"],
        description="What to return of each document beside its id, score and source.",
    )
    rescore: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        strict=True,
        description="Score this many of the best documents again, by unprojected gradients, and rank by that: better "
        "and slower. The index must have been built with `--factors`.",
        examples=[50],
    )
    refine: Refine = 0
    histogram: bool = Field(
        default=False,
        strict=True,
        description="Tell also how the scores of all documents that were searched are spread.",
    )

    @model_validator(mode="after")
    def _options_that_fit(self) -> Self:
        if self.rescore is not None and self.rescore < self.top_k:
            raise ValueError("`rescore` is at least `top_k`: only documents that are scored again are returned")
        if self.refine and self.rescore is None:
            raise ValueError("`refine` goes with `rescore`")
        if self.method != "influence" and (
            self.rescore is not None or self.span is not None or self.sign != "positive"
        ):
            raise ValueError("a baseline takes no `rescore`, no `span` and no negative `sign`")
        return self


class IndexRef(Answer):
    """The index that answered."""

    name: str = Field(description="Name of the index.", examples=["default"])
    version: str = Field(description="Digest of the index's manifest.", examples=["sha256:9f86d081884c7d65"])
    documents: int = Field(description="How many documents the index holds.", examples=[120000])
    searched: int | None = Field(
        default=None, description="How many of them passed the filters, and were searched.", examples=[120000]
    )


class Method(Answer):
    """How the scores were estimated."""

    projection: str = Field(description="Kind of the projection of the gradients.", examples=["random"])
    hessian: str = Field(description="Kind of the curvature that the gradients are whitened by.", examples=["raw"])
    score: str = Field(description="Which score ranks the documents, or the baseline that does.", examples=["relatif"])
    sign: str = Field(description="Which end of the ranking was asked for.", examples=["positive"])
    rescored: int = Field(
        default=0, description="How many documents were scored again by unprojected gradients.", examples=[50]
    )
    refine: int = Field(default=0, description="Steps past EK-FAC in doing so.", examples=[0])


class Usage(Answer):
    """What the question cost, in tokens."""

    prompt_tokens: int = Field(description="Tokens of the prompt.", examples=[12])
    response_tokens: int = Field(description="Tokens of the response.", examples=[80])
    counted_tokens: int | None = Field(
        default=None, description="Those of them that add to the gradient: all, or the span's.", examples=[80]
    )
    truncated: bool = Field(default=False, description="Always false: input that is too long is refused, never cut.")


class Timings(Answer):
    """Where the time went, in milliseconds."""

    queue: float = Field(description="Waiting for the model.", examples=[3.1])
    gradient: float = Field(description="The model's work, rescoring included.", examples=[41.0])
    filters: float = Field(default=0.0, description="Finding the documents that pass the filters.", examples=[0.0])
    search: float = Field(description="Searching the index.", examples=[5.2])
    documents: float = Field(description="Reading the documents found.", examples=[1.0])
    total: float = Field(description="From the request's arrival to its answer.", examples=[51.0])


class AttributedDocument(Answer):
    """A training document and the estimate of its influence."""

    rank: int = Field(description="1 for the most influential document.", examples=[1])
    document_id: str = Field(description="The document's id, as in the corpus.", examples=["hamlet-3-1"])
    score: float = Field(
        description="Estimated influence; unless it is a cosine, comparable within one answer only.", examples=[12.4]
    )
    percentile: float = Field(
        description="Share of the documents searched that score lower, in percent.", examples=[99.98]
    )
    source: str | None = Field(default=None, description="Where the document came from.", examples=["Shakespeare"])
    prompt: str | None = Field(
        default=None, description="What came before the text in a document that is a prompt and its response."
    )
    text: str | None = Field(
        default=None, description="The document's text; null unless `include` asks for it.", examples=["To be, or not"]
    )
    metadata: dict[str, JsonValue] | None = Field(
        default=None,
        description="The document's metadata; null unless `include` asks for it.",
        examples=[{"year": 1603}],
    )


class SourceShare(Answer):
    """How much of the returned credit belongs to one source."""

    source: str | None = Field(description="The source; null for documents that name none.", examples=["Shakespeare"])
    share: float = Field(
        description="The source's part of the summed scores of the returned documents, from 0 to 1. "
        "A score without the asked sign adds nothing.",
        examples=[0.41],
    )
    documents: int = Field(description="How many of the returned documents are from it.", examples=[6])


class Histogram(Answer):
    """How the scores of all documents that were searched are spread: counts in bins of equal width."""

    low: float = Field(description="The lowest score, where the first bin begins.", examples=[-3.2])
    high: float = Field(description="The highest score, where the last bin ends.", examples=[12.4])
    counts: list[int] = Field(description="How many documents score within each bin.", examples=[[3, 40, 17, 2, 1]])


class Attribution(Answer):
    """The most influential training documents. Scores are estimates, and no proof."""

    id: str = Field(description="Id of this answer.", examples=["attr_2f8a1c"])
    object: Literal["attribution"] = "attribution"
    created: int = Field(description="Unix time in seconds.", examples=[1764000000])
    model: str = Field(description="The model whose training is asked about.", examples=["openai-community/gpt2"])
    index: IndexRef
    method: Method
    usage: Usage
    timings_ms: Timings
    data: list[AttributedDocument] = Field(description="Documents, most influential first.")
    sources: list[SourceShare] = Field(description="Credit by source, the largest first.")
    histogram: Histogram | None = Field(
        default=None,
        description="The spread of all documents' scores, as the index has them before any rescoring; null unless "
        "asked for, and where no document was searched.",
    )
