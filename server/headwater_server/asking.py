"""From a question to its answer: tokens, the documents that pass, the model, the search, the documents found."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from headwater.types import AttributeRequest, Attribution, ExplainRequest, Explanation, Histogram, Timings
from headwater_server import costs
from headwater_server.answers import attribution, explanation
from headwater_server.entries import Entry, Row
from headwater_server.errors import IndexLacks, TextWithheld, TooLong, TooManyWanted, UnknownDocument
from headwater_server.questions import characters, encode, texts, where
from headwater_server.queue import GradientQueue
from headwater_server.ranking import Ranked, all_scores, histogram, ranked, rescored
from headwater_server.searches import Searches, Wanted
from headwater_server.settings import Settings
from headwater_server.threads import Threads

if TYPE_CHECKING:
    from headwater_indexer.index import Index, Pair

# A batch's questions are found all at once; were they told all at once, the loop would be held up for everyone else.
TOLD_AT_ONCE = 2


class Asking:
    """Asks an index, step by step; each step runs where it holds nobody up. For one event loop."""

    def __init__(self, queue: GradientQueue, threads: Threads, settings: Settings) -> None:
        self.queue = queue
        self._threads = threads
        self._searches = Searches(threads, on_search=queue.searched, clock=queue.clock)
        self._settings = settings
        self._telling = asyncio.Semaphore(TOLD_AT_ONCE)

    async def attribute(self, question: AttributeRequest, index: "Index") -> Attribution:
        question = self._without_text(question)
        watch = _Watch(self.queue.clock)
        self._admit(question, index)
        with self.queue.arriving():
            pair = await self._encoded(question, index)
            watch.lap("encode")
            among = None
            if question.filters is not None:
                among = await self._threads.filter(index.documents.matching, where(question.filters))
            watch.lap("filters")
        find = self._by_influence if question.method == "influence" else self._by_baseline
        found = await find(question, index, pair, among, watch)

        def told() -> Attribution:
            documents = index.documents.by_ordinal([hit.ordinal for hit in found.ranked])
            watch.lap("documents")
            return attribution(
                question,
                index,
                pair,
                found.ranked,
                documents,
                watch.timings(),
                searched=len(index.documents) if among is None else len(among),
                histogram=found.histogram,
            )

        async with self._telling:
            return await self._threads.read(told)

    async def explain(self, question: ExplainRequest, index: "Index") -> Explanation:
        if self._settings.withhold_text:
            raise TextWithheld
        watch = _Watch(self.queue.clock)
        self._admit(question, index)
        ordinals = await self._threads.read(index.documents.ordinals, question.document_ids)
        if None in ordinals:
            raise UnknownDocument
        with self.queue.arriving():
            pair = await self._encoded(question, index)
        watch.lap("encode")
        known = [ordinal for ordinal in ordinals if ordinal is not None]
        cost = costs.of_explaining(index, pair, len(known), question.refine)
        work = _Work(lambda: index.explain(pair, known, refine=question.refine), cost)
        done = await self._by_worker(self._entry(index, pair, work, watch, slow=True), watch)
        return explanation(question, index, pair, done.values, watch.timings())

    def _without_text(self, question: AttributeRequest) -> AttributeRequest:
        """The question as it may be answered here; text that is asked for by default is only left out."""
        if not self._settings.withhold_text or "text" not in question.include:
            return question
        if "include" in question.model_fields_set:
            raise TextWithheld
        return question.model_copy(update={"include": ["metadata"]})

    async def _encoded(self, question: AttributeRequest | ExplainRequest, index: "Index") -> "Pair":
        pair = await self._threads.read(encode, index, question)
        limit = self._settings.max_request_tokens
        if limit is not None and len(pair.input_ids) > limit:
            raise TooLong(len(pair.input_ids), limit, "tokens")
        return pair

    async def _by_influence(
        self, question: AttributeRequest, index: "Index", pair: "Pair", among: np.ndarray | None, watch: "_Watch"
    ) -> "_Found":
        asked = self._entry(index, pair, None, watch, slow=question.rescore is not None)
        try:
            row = await self._by_worker(asked, watch)
            wanted = Wanted(
                row.values,
                top_k=max(question.top_k, question.rescore or 0),
                score=question.score,
                sign=question.sign,
                among=among,
            )
            found = await (self._with_histogram if question.histogram else self._nearest)(index, wanted)
        finally:
            self.queue.let_go(asked)
        watch.lap("search")
        if question.rescore is None or not found.ranked:
            return found
        ordinals = [hit.ordinal for hit in found.ranked[: question.rescore]]
        cost = costs.of_rescoring(index, pair, len(ordinals), question.refine)
        work = _Work(lambda: index.rescore([pair], [ordinals], refine=question.refine)[0], cost)
        done = await self._by_worker(self._entry(index, pair, work, watch, slow=True), watch)
        searched = len(index.documents) if among is None else len(among)
        return replace(found, ranked=rescored(question, index, row.values, ordinals, done.values, searched=searched))

    async def _nearest(self, index: "Index", wanted: Wanted) -> "_Found":
        return _Found(await self._searches.find(index, wanted))

    async def _with_histogram(self, index: "Index", wanted: Wanted) -> "_Found":
        """By the scores of all documents, which a search alone need not have."""
        among = np.arange(len(index.documents)) if wanted.among is None else wanted.among
        began = self.queue.clock()
        scores = await self._threads.search(all_scores, index, wanted.row, wanted.score, among)
        self.queue.searched(1, self.queue.clock() - began)
        return _Found(ranked(scores, among, wanted.top_k, positive=wanted.sign == "positive"), histogram(scores))

    async def _by_baseline(
        self, question: AttributeRequest, index: "Index", pair: "Pair", among: np.ndarray | None, watch: "_Watch"
    ) -> "_Found":
        asked = [texts(question)]
        if question.method == "bm25":
            [scores] = await self._threads.search(index.baseline, "bm25", asked)
        else:
            work = _Work(lambda: index.baseline("hidden-states", asked), len(pair.input_ids))
            done = await self._by_worker(self._entry(index, pair, work, watch), watch)
            [scores] = done.values
        among = np.arange(len(scores)) if among is None else among
        own = scores[among]
        found = ranked(own, among, question.top_k)
        watch.lap("search")
        return _Found(found, histogram(own) if question.histogram else None)

    def _entry(
        self, index: "Index", pair: "Pair", work: "_Work | None", watch: "_Watch", *, slow: bool = False
    ) -> Entry:
        """The pair's row in a batch, to be searched; or this work alone."""
        deadline = watch.began + (self._settings.slow_request_timeout if slow else self._settings.request_timeout)
        if work is None:
            return Entry(index=index, pair=pair, deadline=deadline, searched=True)
        return Entry(index=index, pair=pair, deadline=deadline, work=work.run, cost=work.cost)

    async def _by_worker(self, entry: Entry, watch: "_Watch") -> Row:
        """In the model's own thread. Work is given up there when nobody waits here any more."""
        self.queue.put(entry)
        try:
            row = await asyncio.wrap_future(entry.answer)
        finally:
            if not entry.searched:
                self.queue.let_go(entry)
        watch.worked(row)
        return row

    def _admit(self, question: AttributeRequest | ExplainRequest, index: "Index") -> None:
        """Refuse what needs no model to be refused."""
        if isinstance(question, AttributeRequest):
            wanted = max(question.top_k, question.rescore or 0)
            if wanted > len(index.documents):
                raise TooManyWanted(
                    question.index, len(index.documents), "top_k" if wanted == question.top_k else "rescore"
                )
        if isinstance(question, ExplainRequest) or question.rescore is not None:
            if not index.can_rescore:
                raise IndexLacks("--factors")
        elif question.method == "hidden-states" and not index.keeps_hidden_states:
            raise IndexLacks("--embeddings")
        count = characters(question)
        if count > self._settings.max_characters:
            raise TooLong(count, self._settings.max_characters)


@dataclass(frozen=True)
class _Work:
    """What the model's thread does for one question alone; `cost` in tokens that the model will see."""

    run: Callable[[], Any]
    cost: int


@dataclass(frozen=True)
class _Found:
    """The documents, most influential first, and how the scores of all are spread where that was asked."""

    ranked: Sequence[Ranked]
    histogram: Histogram | None = None


class _Watch:
    """Where the time of one question goes, in seconds of the queue's clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.began = self._last = clock()
        self._spent: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """Since the last lap, all was for this."""
        now = self._clock()
        self._add(name, now - self._last)
        self._last = now

    def worked(self, row: Row) -> None:
        """Since the last lap there was a wait for the model, and then its work."""
        self._add("queue", row.began - self._last)
        self._add("gradient", row.ended - row.began)
        self._last = self._clock()

    def timings(self) -> Timings:
        """In milliseconds."""
        names = ("queue", "gradient", "filters", "search", "documents")
        spent = {name: round(1000 * self._spent.get(name, 0.0), 2) for name in names}
        return Timings(**spent, total=round(1000 * (self._clock() - self.began), 2))

    def _add(self, name: str, seconds: float) -> None:
        self._spent[name] = self._spent.get(name, 0.0) + seconds
