"""What a server holds: indexes, and the documents in them."""

from typing import Literal

from pydantic import Field, JsonValue

from headwater.types.attribution import Finder
from headwater.types.base import Answer


class ModelRef(Answer):
    """A model, to the commit."""

    id: str = Field(description="Name of the model.", examples=["openai-community/gpt2"])
    revision: str | None = Field(default=None, description="Commit of the model's repository.", examples=["607a30d7"])


class ProjectionInfo(Answer):
    """How gradients were made small enough to keep."""

    kind: str = Field(description="Kind of the projection.", examples=["random"])
    rank: int = Field(description="Rank on each side of a weight matrix.", examples=[16])


class HessianInfo(Answer):
    """The curvature that gradients are whitened by."""

    kind: str = Field(description="Kind of the curvature.", examples=["raw"])
    damping: float = Field(description="Damping, relative to the mean eigenvalue.", examples=[0.1])


class IndexMethod(Answer):
    """How the index was built."""

    projection: ProjectionInfo
    hessian: HessianInfo


class SearchInfo(Answer):
    """How the index is searched."""

    plan: str = Field(description="exact, or two-stage: signs propose and rows decide.", examples=["two-stage"])
    candidates: int | None = Field(
        default=None, description="Documents scored exactly for each question; null for all.", examples=[1024]
    )
    recall_at_10: float | None = Field(
        default=None,
        description="The share of the 10 documents that exact search finds which this search found too, as measured "
        "when the index was built; 1 for exact search itself.",
        examples=[0.997],
    )
    recall_at_100: float | None = Field(default=None, description="The same of 100 documents.", examples=[0.985])
    memory_bytes: int | None = Field(default=None, description="Memory that searching takes.", examples=[1860000000])


class ChatInfo(Answer):
    """How the gateway is asked for an answer of the index's model."""

    model: str = Field(description="What the upstream calls the model.", examples=["openai-community/gpt2"])
    messages: bool = Field(
        description="Whether the model takes conversations; if not, ask `/v1/completions`.", examples=[True]
    )


class IndexInfo(Answer):
    """An index that the server holds."""

    name: str = Field(description="Name under which it is served.", examples=["default"])
    object: Literal["index"] = "index"
    version: str = Field(description="Digest of the index's manifest.", examples=["sha256:9f86d081884c7d65"])
    documents: int = Field(description="How many documents it holds.", examples=[120000])
    model: ModelRef
    method: IndexMethod
    layers: int = Field(description="How many layers' gradients it keeps.", examples=[24])
    width: int = Field(description="Numbers kept for each document.", examples=[6144])
    created: int = Field(description="When it was built; Unix time in seconds.", examples=[1764000000])
    search: SearchInfo | None = Field(default=None, description="How it is searched; null where a server is older.")
    explains: bool = Field(
        default=False, description="Whether `/v1/explain` tells the tokens that influence is made of.", examples=[True]
    )
    baselines: list[Finder] = Field(
        default=[], description="What `method` takes beside `influence`.", examples=[["bm25", "hidden-states"]]
    )
    chat: ChatInfo | None = Field(default=None, description="The gateway to its model; null where there is none.")


class IndexList(Answer):
    """The indexes that the server holds."""

    object: Literal["list"] = "list"
    data: list[IndexInfo] = Field(description="Indexes, by name.")


class DocumentRecord(Answer):
    """A training document as it stands in the index."""

    id: str = Field(description="The document's id, as in the corpus.", examples=["hamlet-3-1"])
    object: Literal["document"] = "document"
    text: str = Field(description="The text that was trained on.", examples=["To be, or not to be"])
    prompt: str | None = Field(
        default=None, description="What came before the text in a document that is a prompt and its response."
    )
    source: str | None = Field(default=None, description="Where it came from.", examples=["Shakespeare"])
    metadata: dict[str, JsonValue] = Field(default_factory=dict, description="Its metadata.", examples=[{"year": 1603}])
    tokens: int | None = Field(default=None, description="Its length in tokens, where known.", examples=[214])
