"""From what travels to what an index is asked: pairs of tokens, and conditions on documents."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from headwater.types import Asked, Condition, Filters
from headwater_indexer.filters import AllOf, AnyOf, Between, Not, OneOf, Operator, Scalar, Where

if TYPE_CHECKING:
    from headwater_indexer.index import Index, Pair


def encode(index: "Index", question: Asked) -> "Pair":
    """Raises PairError when it cannot be attributed."""
    span = None if question.span is None else (question.span.start, question.span.stop)
    if question.messages is not None:
        messages = [message.model_dump() for message in question.messages]
        return index.encode_messages(messages, question.response, span=span)
    return index.encode(question.prompt or "", question.response, span=span)


def characters(question: Asked) -> int:
    """Of everything that would be tokenised."""
    return (
        len(question.response) + len(question.prompt or "") + sum(len(one.content) for one in question.messages or ())
    )


def texts(question: Asked) -> tuple[str, str]:
    """Prompt and response for a baseline; of a conversation what was said, line by line."""
    said = question.prompt or "\n".join(message.content for message in question.messages or ())
    return said, question.response


def where(filters: Filters) -> Where:
    parts: list[Where] = [*_conditions(filters.must), Not(AnyOf(_conditions(filters.must_not)))]
    if filters.should:
        parts.append(AnyOf(_conditions(filters.should)))
    return AllOf(tuple(parts))


def _conditions(conditions: Sequence[Condition]) -> tuple[Where, ...]:
    return tuple(_condition(condition) for condition in conditions)


def _condition(condition: Condition) -> Where:
    first, _, rest = condition.key.partition(".")
    path = (first, *rest.split(".")) if rest else (first,)
    if condition.range is not None:
        return Between(path, tuple((cast(Operator, name), bound) for name, bound in condition.range.bounds.items()))
    values = condition.one_of if condition.one_of is not None else [condition.equals]
    return OneOf(path, tuple(cast(list[Scalar], values)))
