"""What is measured: each rival at the settings that its documentation names, and at several sizes."""

from dataclasses import dataclass
from typing import Any

RANKS = (16, 64)  # of the capture


@dataclass(frozen=True)
class Point:
    """One rival at one setting. `quick` ones are measured by --quick."""

    rival: str
    name: str
    settings: dict[str, Any]
    quick: bool = False


def _headwater(name: str, *options: str, asked: tuple[str, ...] = (), quick: bool = False) -> Point:
    return Point("headwater", name, {"options": list(options), "asked": list(asked)}, quick)


def _kronfluence(
    layers: str, damping: float | None, name: str, *, empirical: bool = False, query_rank: int | None = None
) -> Point:
    settings = {"layers": layers, "damping": damping, "empirical": empirical, "query_rank": query_rank}
    return Point("kronfluence", f"EK-FAC, {layers} layers, {name}", settings)


def _dattri(layers: str, rank: int, damping: float | None, *, quick: bool = False) -> Point:
    settings = {"layers": layers, "rank": rank, "damping": damping}
    return Point("dattri", f"LoGra, {layers} layers, rank {rank}, damping {damping or 'by default'}", settings, quick)


def _bergson(name: str, *, quick: bool = False, **settings: Any) -> Point:
    given = {"unit_norm": False, "damping": 0.1, "refinement_steps": 0, "refinement_documents": 0}
    return Point("bergson", name, given | settings, quick)


def _logix(layers: str, rank: int, *, quick: bool = False, **settings: Any) -> Point:
    given = {"layers": layers, "rank": rank, "start": "random", "hessian": "raw", "damping": None, "mode": "dot"}
    name = ", ".join([f"LoGra, {layers} layers, rank {rank}", *map(str, settings.values())])
    return Point("logix", name, given | settings, quick)


HEADWATER = [
    *(
        _headwater(f"--bytes {count}", "--bytes", str(count), quick=count == 256)
        for count in (128, 256, 512, 768, 1024, 2048, 3072, 4096, 6400)
    ),
    *(_headwater(f"--rank {rank}, float32", "--rank", str(rank)) for rank in (22, 32, 48, 64, 128)),
    _headwater("--bytes 512, and BM25", "--bytes", "512", asked=("--method", "hybrid")),
    _headwater("--bytes 2048, and BM25", "--bytes", "2048", asked=("--method", "hybrid")),
    _headwater("--rescore all", asked=("--rescore", "all")),
]
KRONFLUENCE = [
    _kronfluence("all", None, "damping a tenth of the mean"),
    _kronfluence("all", 1e-8, "damping 1e-8"),
    _kronfluence("mlp", None, "damping a tenth of the mean"),
    _kronfluence("mlp", 1e-8, "damping 1e-8"),
    _kronfluence("mlp", 1e-8, "damping 1e-8, empirical Fisher", empirical=True),
    _kronfluence("mlp", 1e-8, "damping 1e-8, queries of rank 32", query_rank=32),
]
DATTRI = [
    *(_dattri("all", rank, damping) for rank in (4, 8, 16, 32, 48) for damping in (None, 0.1)),
    *(_dattri("mlp", rank, 0.1, quick=rank == 16) for rank in (16, 32, 48)),
]
BERGSON = [
    *(
        _bergson(
            f"gradients, {layers} layers, projection {projection or 'none'}",
            layers=layers,
            projection=projection,
            hessian="none",
        )
        for layers, projection in (("all", 16), ("all", 32), ("all", 0), ("mlp", 0))
    ),
    _bergson(
        "cosine of gradients, all layers, projection 16", layers="all", projection=16, hessian="none", unit_norm=True
    ),
    *(
        _bergson(
            f"preconditioned, {layers} layers, projection {projection}",
            layers=layers,
            projection=projection,
            hessian="autocorrelation",
            quick=(layers, projection) == ("mlp", 16),
        )
        for layers, projection in (("all", 8), ("all", 16), ("all", 32), ("mlp", 16), ("mlp", 32), ("mlp", 48))
    ),
    *(
        _bergson(
            f"TrackStar, {layers} layers, projection {projection}",
            layers=layers,
            projection=projection,
            hessian="autocorrelation",
            unit_norm=True,
        )
        for layers, projection in (("all", 16), ("all", 32), ("mlp", 32))
    ),
    *(
        _bergson(f"EK-FAC, mlp layers, damping {damping}", layers="mlp", projection=0, hessian="ekfac", damping=damping)
        for damping in (0.1, 0.01, 0.001)
    ),
]
LOGIX = [
    *(_logix("all", rank) for rank in (8, 16, 32)),
    *(_logix("mlp", rank, quick=rank == 16) for rank in (16, 32, 48)),
    _logix("mlp", 32, start="pca"),
    _logix("all", 16, mode="cosine"),
]
BASELINES = [
    Point("baselines", "BM25", {"method": "bm25"}, True),
    *(
        Point("baselines", f"hidden states, layer {n}", {"method": "hidden-states", "layer": n}, n == 2)
        for n in range(4)
    ),
]
POINTS = [*HEADWATER, *KRONFLUENCE, *DATTRI, *BERGSON, *LOGIX, *BASELINES]


def capture_points(rank: int) -> list[Point]:
    """Each rival that has a capture, over all linear layers but the head."""
    layers = {"layers": "all"}
    return [
        Point("headwater", f"rank {rank}", layers | {"rank": rank}),
        Point("dattri", f"rank {rank}", layers | {"rank": rank, "damping": None}),
        Point("bergson", f"projection {rank}", layers | {"projection": rank}),
        Point("logix", f"rank {rank}", layers | {"rank": rank, "start": "random"}),
    ]
