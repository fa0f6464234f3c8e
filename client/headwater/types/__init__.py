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
    Timings,
    Usage,
)
from headwater.types.base import Answer, IndexName, Question
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
    "DocumentRecord",
    "ErrorBody",
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
    "Score",
    "Sign",
    "SourceShare",
    "Timings",
    "Usage",
]
