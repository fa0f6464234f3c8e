"""From hits and documents to what travels: the ranked documents, and the credit by source."""

import secrets
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from headwater.types import (
    AttributedDocument,
    AttributeRequest,
    Attribution,
    ChatInfo,
    DocumentExplanation,
    DocumentRecord,
    ExplainRequest,
    Explanation,
    HessianInfo,
    Histogram,
    IndexInfo,
    IndexMethod,
    IndexRef,
    Method,
    ModelRef,
    ProjectionInfo,
    SearchInfo,
    Sign,
    SourceShare,
    Timings,
    TokenInfluence,
    Usage,
)

if TYPE_CHECKING:
    from headwater_indexer.corpus import Document
    from headwater_indexer.ekfac.pieces import TokenInfluence as Token
    from headwater_indexer.index import Explanation as Explained
    from headwater_indexer.index import Index, Pair
    from headwater_server.ranking import Ranked
    from headwater_server.settings import Settings


def attribution(
    question: AttributeRequest,
    index: "Index",
    pair: "Pair",
    hits: Sequence["Ranked"],
    documents: Sequence["Document"],
    timings: Timings,
    *,
    searched: int,
    histogram: Histogram | None = None,
) -> Attribution:
    """The answer; `hits` and `documents` stand in the same order, most influential first."""
    manifest = index.manifest
    return Attribution(
        id=f"attr_{secrets.token_hex(12)}",
        created=int(time.time()),
        model=manifest.model.name,
        index=IndexRef(
            name=question.index, version=manifest.version, documents=len(index.documents), searched=searched
        ),
        method=Method(
            projection=manifest.projection.kind,
            hessian=manifest.hessian.kind,
            score=question.score if question.method == "influence" else question.method,
            sign=question.sign,
            rescored=min(question.rescore or 0, searched),
            refine=question.refine,
        ),
        usage=_usage(pair),
        timings_ms=timings,
        data=[
            AttributedDocument(
                rank=rank,
                document_id=document.id,
                score=hit.score,
                percentile=hit.percentile,
                source=document.source,
                prompt=document.prompt if "text" in question.include else None,
                text=document.text if "text" in question.include else None,
                metadata=document.metadata if "metadata" in question.include else None,
            )
            for rank, (hit, document) in enumerate(zip(hits, documents, strict=True), start=1)
        ],
        sources=credit(
            [(document.source, hit.score) for hit, document in zip(hits, documents, strict=True)], question.sign
        ),
        histogram=histogram,
    )


def explanation(
    question: ExplainRequest, index: "Index", pair: "Pair", found: Sequence["Explained"], timings: Timings
) -> Explanation:
    """`found` stands in the order of the question's documents."""
    documents = len(index.documents)
    return Explanation(
        model=index.manifest.model.name,
        index=IndexRef(name=question.index, version=index.manifest.version, documents=documents),
        usage=_usage(pair),
        timings_ms=timings,
        data=[
            DocumentExplanation(
                document_id=document_id,
                score=one.score,
                document=[_token(token) for token in one.document],
                response=[_token(token) for token in one.response],
            )
            for document_id, one in zip(question.document_ids, found, strict=True)
        ],
    )


def _token(token: "Token") -> TokenInfluence:
    return TokenInfluence(text=token.text, start=token.start, stop=token.end, influence=token.influence)


def _usage(pair: "Pair") -> Usage:
    return Usage(
        prompt_tokens=pair.prompt_tokens, response_tokens=pair.response_tokens, counted_tokens=pair.counted_tokens
    )


def credit(scores: Sequence[tuple[str | None, float]], sign: Sign) -> list[SourceShare]:
    """Each source's part of the summed scores of the asked sign; a score of the other sign earns nothing."""
    earned: dict[str | None, float] = defaultdict(float)
    counted: dict[str | None, int] = defaultdict(int)
    for source, score in scores:
        earned[source] += max(0.0, score if sign == "positive" else -score)
        counted[source] += 1
    total = sum(earned.values())
    shares = [
        SourceShare(source=source, share=earned[source] / total if total > 0 else 0.0, documents=counted[source])
        for source in counted
    ]
    return sorted(shares, key=lambda share: (-share.share, share.source or ""))


def index_info(name: str, index: "Index", settings: "Settings") -> IndexInfo:
    manifest = index.manifest
    called = settings.upstream_name(name) or settings.model or manifest.model.id
    return IndexInfo(
        name=name,
        version=manifest.version,
        documents=len(index.documents),
        model=ModelRef(id=manifest.model.name, revision=manifest.model.revision),
        method=IndexMethod(
            projection=ProjectionInfo(kind=manifest.projection.kind, rank=manifest.projection.rank),
            hessian=HessianInfo(kind=manifest.hessian.kind, damping=manifest.hessian.damping),
        ),
        layers=len(manifest.layers),
        width=manifest.width,
        created=manifest.created,
        search=SearchInfo(
            plan=index.plan.kind,
            candidates=manifest.search.candidates if index.plan.kind == "two-stage" else None,
            recall_at_10=manifest.search.recall_at_10 if index.plan.kind == "two-stage" else 1.0,
            recall_at_100=manifest.search.recall_at_100 if index.plan.kind == "two-stage" else 1.0,
            memory_bytes=index.plan.memory_bytes,
        ),
        explains=index.can_rescore and not settings.withhold_text,
        baselines=["bm25", "hidden-states"] if index.keeps_hidden_states else ["bm25"],
        chat=ChatInfo(model=called, messages=index.takes_messages) if settings.upstream is not None else None,
    )


def document_record(document: "Document") -> DocumentRecord:
    return DocumentRecord(
        id=document.id,
        text=document.text,
        prompt=document.prompt,
        source=document.source,
        metadata=document.metadata,
    )
