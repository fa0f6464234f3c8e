"""What travels between client and server."""

from headwater.types.attribution import (
    AttributedDocument,
    AttributeRequest,
    Attribution,
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
    "AttributeRequest",
    "AttributedDocument",
    "Attribution",
    "BatchAttribution",
    "BatchItem",
    "BatchRequest",
    "Condition",
    "DocumentRecord",
    "ErrorBody",
    "Filters",
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
    "Usage",
]
