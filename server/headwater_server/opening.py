"""Opens an index for a server: a folder, or what is at a URL, by way of a cache; searched here, or by a cluster."""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from headwater_indexer.checkpoint import Checkpoint
from headwater_indexer.index import Elsewhere, Index
from headwater_indexer.manifest import Manifest
from headwater_indexer.numbering import Numbering
from headwater_indexer.plan import Plan
from headwater_indexer.storage.exchange import pull_index
from headwater_indexer.storage.remote import is_url
from headwater_server.logs import Told
from headwater_server.settings import Settings


def open_index(place: str, settings: Settings, loaded: Callable[[], Sequence[Checkpoint]]) -> Index:
    """The index of this folder or URL, as it is now. `loaded` gives the models that are in memory already."""
    url = place if is_url(place) else None
    folder = Path(place) if url is None else cached(url, settings.cache)
    told = Told(folder.name)
    if url is not None:
        pull_index(url, folder, progress=told)
    return Index.open(
        folder,
        device=settings.device,
        model=settings.model,
        loaded=loaded(),
        plan=settings.plan,
        memory=settings.memory_bytes,
        spread=partial(_spread, settings, url) if settings.engine == "ray" else None,
        progress=told,
    )


def cached(url: str, cache: Path | None) -> Path:
    """The folder that a URL's index is pulled into."""
    name = url.rstrip("/").rpartition("/")[2]
    digest = hashlib.sha256(url.rstrip("/").encode()).hexdigest()
    return (cache or Path.home() / ".cache" / "headwater") / f"{name}-{digest[:12]}"


def _spread(
    settings: Settings, url: str | None, folder: Path, manifest: Manifest, numbering: Numbering, plan: Plan
) -> Elsewhere:
    from headwater_indexer.engines.cluster import import_ray
    from headwater_indexer.spread.application import nodes
    from headwater_indexer.spread.cluster_search import ClusterSearch

    return ClusterSearch(
        folder,
        manifest,
        numbering,
        url=url,
        searchers=settings.shards or nodes(import_ray()),
        replicas=settings.replicas,
        patience=settings.shard_timeout,
        two_stage=plan.kind == "two-stage",
    )
