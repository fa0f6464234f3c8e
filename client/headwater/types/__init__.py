"""What travels between client and server."""

from headwater.types.attribution import (
    Asked,
    AttributedDocument,
    AttributeRequest,
    Attribution,
    Finder,
    IndexRef,
    Message,
    Method,
    Part,
    Score,
    Sign,
    SourceShare,
    Span,
    Timings,
    Usage,
)
from headwater.types.base import Answer, IndexName, Question
from headwater.types.batch import BatchAttribution, BatchItem, BatchRequest
from headwater.types.explain import DocumentExplanation, ExplainRequest, Explanation, TokenInfluence
from headwater.types.filters import Condition, Filters, Range
from headwater.types.operations import ErrorBody, Health, Problem
from headwater.types.served import (
    DocumentRecord,
    HessianInfo,
    IndexInfo,
    IndexList,
    IndexMethod,
    ModelRef,
    ProjectionInfo,
)

__all__ = [
    "Answer",
    "Asked",
    "AttributeRequest",
    "AttributedDocument",
    "Attribution",
    "BatchAttribution",
    "BatchItem",
    "BatchRequest",
    "Condition",
    "DocumentExplanation",
    "DocumentRecord",
    "ErrorBody",
    "ExplainRequest",
    "Explanation",
    "Filters",
    "Finder",
    "Health",
    "HessianInfo",
    "IndexInfo",
    "IndexList",
    "IndexMethod",
    "IndexName",
    "IndexRef",
    "Message",
    "Method",
    "ModelRef",
    "Part",
    "Problem",
    "ProjectionInfo",
    "Question",
    "Range",
    "Score",
    "Sign",
    "SourceShare",
    "Span",
    "Timings",
    "TokenInfluence",
    "Usage",
]
