"""The server opens indexes by the plan and within the memory that it is given, and tells both."""

from pathlib import Path

import pytest

from headwater_indexer.build import build_index
from headwater_indexer.errors import ConfigurationError
from headwater_indexer.index import Index
from headwater_indexer.options import BuildOptions
from headwater_server.settings import read_settings


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory, checkpoint_folder: Path, corpus_file: Path) -> Path:
    out = tmp_path_factory.mktemp("planned") / "index"
    build_index(str(checkpoint_folder), str(corpus_file), out, BuildOptions(rank=6, bits=4, plan="two-stage"))
    return out


@pytest.mark.parametrize("plan", ["exact", "two-stage"])
def test_an_index_tells_how_it_is_searched_and_what_that_finds(planned: Path, live, plan: str) -> None:
    server = live(lambda: Index.open(planned, device="cpu", plan=plan))
    search = server.client.get("/v1/indexes/default").json()["search"]
    assert search["plan"] == plan
    assert 0 < search["recall_at_100"] <= search["recall_at_10"] <= 1
    assert (search["candidates"] is None) == (plan == "exact")
    asked = {"prompt": "the river feeds", "response": " the lake 3 and the mill crosses the stone", "top_k": 3}
    assert len(server.client.post("/v1/attribute", json=asked).json()["data"]) == 3


def test_a_budget_of_memory_is_a_setting() -> None:
    assert read_settings({"memory": "8GB", "plan": "exact"}).memory_bytes == 8e9
    with pytest.raises(ConfigurationError, match="give a size such as 8GB"):
        read_settings({"memory": "much"})
    with pytest.raises(ConfigurationError, match="plan"):
        read_settings({"plan": "quick"})


def test_an_index_that_does_not_fit_is_refused_with_its_size(planned: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"needs 300\.0 MB"):
        Index.open(planned, device="cpu", memory=100_000_000)
