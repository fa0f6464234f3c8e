"""Many questions at once: what became of each, in their order."""

import logging
from collections.abc import Sequence

from headwater.types import Attribution, BatchAttribution, BatchItem
from headwater_server.logs import where_it_failed
from headwater_server.problems import ProblemError, error_body, internal_error
from headwater_server.refusals import refusal

log = logging.getLogger("headwater.batch")


def batch_answer(outcomes: Sequence[Attribution | BaseException]) -> BatchAttribution:
    return BatchAttribution(data=[_item(position, outcome) for position, outcome in enumerate(outcomes)])


def _item(position: int, outcome: Attribution | BaseException) -> BatchItem:
    if isinstance(outcome, Attribution):
        return BatchItem(position=position, status=200, attribution=outcome)
    problem = _problem(outcome)
    wait = (problem.headers or {}).get("Retry-After")
    return BatchItem(
        position=position,
        status=problem.status_code,
        error=error_body(problem),
        retry_after=None if wait is None else int(wait),
    )


def _problem(error: BaseException) -> ProblemError:
    known = refusal(error)
    if known is None:
        log.error("a question of a batch failed: %s", where_it_failed(error))
    return known or internal_error()
