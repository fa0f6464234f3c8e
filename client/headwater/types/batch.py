"""Many questions at once, each with its own answer or error."""

from typing import Literal

from pydantic import Field

from headwater.types.attribution import AttributeRequest, Attribution
from headwater.types.base import Answer, Question
from headwater.types.operations import ErrorBody


class BatchRequest(Question):
    """Questions that are answered in their order. One that cannot be answered does not spoil the others."""

    questions: list[AttributeRequest] = Field(min_length=1, max_length=64, description="The questions.")


class BatchItem(Answer):
    """What became of one question: an attribution, or an error."""

    position: int = Field(description="The question's place in the request, from 0.", examples=[0])
    status: int = Field(description="The HTTP status that the question alone would have got.", examples=[200])
    attribution: Attribution | None = Field(default=None, description="The answer; null if there is none.")
    error: ErrorBody | None = Field(default=None, description="Why there is no answer.")
    retry_after: int | None = Field(default=None, description="Seconds after which to ask again, where that helps.")


class BatchAttribution(Answer):
    """The answers to many questions, in their order."""

    object: Literal["list"] = "list"
    data: list[BatchItem] = Field(description="One for each question, in the order of the request.")
