"""What a service answers and refuses, beside what its engine does alone, under loads up to ten times what it bears.

    python benchmarks/serve.py [--quick] [--small] [--soak SECONDS] [--plot FILE.svg]

Builds an index of Python's own sources by a GPT-2 of 6 layers and width 384, as capture is measured with on a CPU, and
serves it by headwater-serve on loopback. First, without load, the gradient of a pair and the search alone take turns
with the same question over HTTP. Then load.py, a process of its own, asks at fixed rates that do not wait for answers,
given in parts of what the engine does alone in batches with the same pairs, measured anew around each rate, so that a
busy machine slows both; and last at ten times the best for `--soak` seconds. Server and engine have all cores but one,
and who asks has that one. Under `asking_alone` the same is asked, at the same rate, of a server that only refuses: the
times of whoever asks. `--small` takes 4 layers and width 128 instead, the hard case: HTTP and JSON cost the same
whatever the model.
Prints one JSON object; the exit code is 0 only when nothing falls short. `--plot` needs headwater[benchmarks].
"""

import http.client
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from measuring import conclude, described
from rates import ask_at, asking_alone, bind, part_cores, quantile
from serving import Served, questions, serving, write_index
from workloads import Family

from headwater_indexer.index import Index, Pair

OVERLOAD = 10.0  # times the goodput of the rate that came nearest to the engine
TOP_K = 10
ENGINE_ROUNDS = 2  # of all questions, each time that the engine alone is measured

LATENCY_RATIO = 1.25
TAIL_RATIO = 2.0
SATURATION = 0.85
KEPT_GOODPUT = 0.9
REFUSAL_SECONDS = 0.05
GROWTH = 1.05  # of the most memory, from the first half of the overload to the second


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is asked."""

    documents: int
    questions: int
    rounds: int  # without load
    rates: Sequence[float]  # of the engine's own throughput
    seconds: float  # of each rate
    soak: float  # seconds of overload
    batch_tokens: int  # of the server and of the engine alone
    queue_requests: int


FULL = Size(
    documents=400,
    questions=64,
    rounds=200,
    rates=(0.5, 0.75, 0.9, 1.2, 1.5),
    seconds=30.0,
    soak=600.0,
    batch_tokens=8_192,  # as the server's default, and so is the queue
    queue_requests=256,
)
QUICK = Size(
    documents=12,
    questions=8,
    rounds=10,
    rates=(0.5, 1.5),
    seconds=3.0,
    soak=4.0,
    batch_tokens=512,  # so that answers come often in few seconds
    queue_requests=32,  # of which all are answered in the end
)


def unloaded(index: Index, asked: Sequence[dict[str, str]], served: Served, rounds: int) -> dict[str, float]:
    """Milliseconds of gradient and search alone and of the whole answer over HTTP, question by question in turns."""
    connection = http.client.HTTPConnection(served.host, served.port, timeout=60)
    alone, whole = [], []
    for number in range(rounds + 10):
        question = asked[0]  # one and the same: what varies is then the service
        pair = index.encode(question["prompt"], question["response"])
        began = time.perf_counter()
        index.search(index.rows([pair]), top_k=TOP_K)
        between = time.perf_counter()
        _post(connection, question)
        ended = time.perf_counter()
        if number >= 10:
            alone.append(1000 * (between - began))
            whole.append(1000 * (ended - between))
    connection.close()
    return {
        "rounds": rounds,
        "tokens": len(index.encode(asked[0]["prompt"], asked[0]["response"]).input_ids),
        "alone_p50_ms": quantile(alone, 50),
        "alone_p99_ms": quantile(alone, 99),
        "http_p50_ms": quantile(whole, 50),
        "http_p99_ms": quantile(whole, 99),
        "ratio_p50": round(statistics.median(whole) / statistics.median(alone), 3),
        "tail": round(quantile(whole, 99) / quantile(whole, 50), 3),
        "tail_alone": round(quantile(alone, 99) / quantile(alone, 50), 3),
    }


def _post(connection: http.client.HTTPConnection, question: dict[str, str]) -> None:
    connection.request("POST", "/v1/attribute", json.dumps(question), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    if answer.status != 200:
        raise RuntimeError(f"an unloaded server answered {answer.status}")


def engine_throughput(index: Index, pairs: Sequence[Pair], batch_tokens: int) -> float:
    """Questions a second of gradients in batches of like lengths, and their search, with nothing around them."""
    ordered = sorted(pairs, key=lambda pair: len(pair.input_ids))
    began = time.perf_counter()
    for _ in range(ENGINE_ROUNDS):
        _all_of(index, ordered, batch_tokens)
    return ENGINE_ROUNDS * len(ordered) / (time.perf_counter() - began)


def _all_of(index: Index, ordered: Sequence[Pair], batch_tokens: int) -> None:
    start = 0
    while start < len(ordered):
        stop = start + 1
        while stop < len(ordered) and (stop + 1 - start) * len(ordered[stop].input_ids) <= batch_tokens:
            stop += 1
        index.search(index.rows(ordered[start:stop]), top_k=TOP_K)
        start = stop


def loaded(
    engine: Callable[[], float],
    served: Served,
    asked: Sequence[dict[str, str]],
    cores: Sequence[int],
    size: Size,
) -> dict[str, Any]:
    """Each rate after the engine alone, and then ten times the best goodput; `engine` tells its questions a second."""
    engine()
    steps = []
    for part in size.rates:
        alone = engine()
        step = ask_at(part * alone, size.seconds, served, asked, cores)
        after = engine()
        alone = (alone + after) / 2
        steps.append({"engine_alone": round(alone, 1), "part": round(step["goodput"] / alone, 3), **step})
    best = max(steps, key=lambda step: step["part"])
    before = engine()
    overload = ask_at(OVERLOAD * best["goodput"], size.soak, served, asked, cores)
    alone = (before + engine()) / 2
    overload = {"engine_alone": round(alone, 1), "part": round(overload["goodput"] / alone, 3), **overload}
    peaks = overload["peak_mb"]
    return {
        "steps": steps,
        "overload": overload,
        "asking_alone": asking_alone(overload["rate"], min(size.soak, 10.0), asked, cores),
        "saturation_to_engine": max(best["part"], overload["part"]),
        # As they are, not in parts of the engine's: a soak of minutes is not told by the seconds before and after it.
        "overload_goodput_to_best": round(overload["goodput"] / max(step["goodput"] for step in steps), 3),
        "memory_growth": round(
            max(peaks[len(peaks) // 2 :]) / max(peaks[1 : len(peaks) // 2]), 4
        ),  # at first the queue fills
        "answered_by_the_server": _counted(served),
    }


def _counted(served: Served) -> int:
    """Questions answered with 200, by the server's own metrics."""
    lines = [line for line in served.get("/metrics").splitlines() if line.startswith("http_requests_total{")]
    return sum(int(float(line.split()[-1])) for line in lines if "attribute" in line and 'status="200"' in line)


def shortfalls(still: dict[str, float], load: dict[str, Any], asked_before: int) -> list[str]:
    overload, short = load["overload"], []
    if still["ratio_p50"] > LATENCY_RATIO:
        short.append(f"p50 over HTTP is {still['ratio_p50']} of gradient and search alone, not {LATENCY_RATIO}")
    if still["tail"] > TAIL_RATIO:
        short.append(f"p99 is {still['tail']} of p50, not {TAIL_RATIO} (of the engine alone {still['tail_alone']})")
    if load["saturation_to_engine"] < SATURATION:
        short.append(f"throughput is {load['saturation_to_engine']} of the engine's own, not {SATURATION}")
    if load["overload_goodput_to_best"] < KEPT_GOODPUT:
        short.append(f"overloaded, goodput is {load['overload_goodput_to_best']} of its best, not {KEPT_GOODPUT}")
    if overload["refusal_p99_ms"] > 1000 * REFUSAL_SECONDS:
        short.append(f"p99 of refusals is {overload['refusal_p99_ms']} ms, not {1000 * REFUSAL_SECONDS:g}")
    if load["memory_growth"] > GROWTH:
        short.append(f"memory grew to {load['memory_growth']} under overload, not {GROWTH}")
    every = [*load["steps"], overload]
    if any(step["lost"] or step["other_statuses"] for step in every):
        short.append("requests were lost, or got neither an answer nor 429")
    if load["answered_by_the_server"] != asked_before + sum(step["answered"] for step in every):
        short.append("the server counts other answers than its clients")
    return short


def plot(load: dict[str, Any], path: Path) -> None:
    """Goodput and p99 over the rate, both in parts of the engine's own throughput."""
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "serve", "svg.fonttype": "none", "font.size": 9, "font.family": "sans-serif"})
    steps = [*load["steps"], load["overload"]]
    rates = [step["rate"] / step["engine_alone"] for step in steps]
    figure, (above, below) = plt.subplots(2, 1, figsize=(6.4, 5.2), layout="constrained", sharex=True)
    above.plot(rates, [step["part"] for step in steps], "o-", color="#0b6e4f")
    above.axhline(SATURATION, color="#999999", linestyle="--", linewidth=0.8)
    above.set_ylabel("answers over the engine's own")
    below.plot(rates, [step["answer_p50_ms"] for step in steps], "o-", color="#0b6e4f", label="answers, p50")
    below.plot(rates, [step["answer_p99_ms"] for step in steps], "o-", color="#5b3e96", label="answers, p99")
    refused = [(rate, step["refusal_p99_ms"]) for rate, step in zip(rates, steps, strict=True) if step["refused"]]
    below.plot(*zip(*refused, strict=True), "D-", color="#b3541e", label="refusals, p99") if refused else None
    below.set(xscale="log", yscale="log", xlabel="requests over the engine's own throughput", ylabel="milliseconds")
    below.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer documents, rounds and seconds.")] = False,
    small: Annotated[bool, typer.Option("--small", help="A model of 4 layers and width 128.")] = False,
    soak: Annotated[float | None, typer.Option(help="Seconds of overload. [600, quick 4]")] = None,
    plot_to: Annotated[Path | None, typer.Option("--plot", help="An SVG of rates and answers.")] = None,
) -> None:
    """Load a server, and say what it bears."""
    size = QUICK if quick else FULL
    if soak is not None:
        size = replace(size, soak=soak)
    cores, apart = part_cores()
    bind(cores)
    threads = len(cores) or os.cpu_count() or 1
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        family: Family = "gpt2-small" if small else "gpt2"
        index_folder = write_index(folder, documents=size.documents, family=family, factors=False)
        asked = questions(folder / "corpus.jsonl", size.questions)
        index = Index.open(index_folder, device="cpu")
        pairs = [index.encode(one["prompt"], one["response"]) for one in asked]
        bounds = {"threads": threads, "max-batch-tokens": size.batch_tokens, "max-queue-requests": size.queue_requests}
        with serving(index_folder, *(f"--{name}={bound}" for name, bound in bounds.items())) as served:
            still = unloaded(index, asked, served, size.rounds)
            load = loaded(lambda: engine_throughput(index, pairs, size.batch_tokens), served, asked, apart, size)
            falls_short = shortfalls(still, load, size.rounds + 10)
    if plot_to is not None:
        plot(load, plot_to)
    report = {
        **described(torch.device("cpu")),
        "quick": quick,
        "small": small,
        "unloaded": still,
        **load,
        "falls_short": falls_short,
    }
    conclude(report)


if __name__ == "__main__":
    typer.run(main)
