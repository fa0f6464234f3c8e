"""Reload: the new version takes over without a dropped request, or the old one serves on; and who may ask for it."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from headwater_indexer.build import build_index
from headwater_indexer.index import Index
from headwater_indexer.options import BuildOptions

READER, ADMINISTRATOR = "a-reader-key-of-length", "an-administrator-key"


def reload(server, name="default", key=ADMINISTRATOR):
    return server.client.post(f"/v1/indexes/{name}/reload", headers={"Authorization": f"Bearer {key}"})


def test_a_reload_under_load_drops_no_request(twin, live, wait_until):
    made = []

    def open_index():
        made.append(twin(documents=40 + len(made)))
        return made[-1]

    server = live(open_index, admin_keys=(ADMINISTRATOR,), api_keys=(READER,))
    server.client.headers["Authorization"] = f"Bearer {READER}"
    stop, answers = threading.Event(), []

    def ask_on():
        while not stop.is_set():
            answers.append(server.ask("some words to ask about"))

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask_on) for _ in range(4)]
        reloaded = [reload(server) for _ in range(5)]
        stop.set()
        [one.result() for one in asking]
    assert [answer.json()["documents"] for answer in reloaded] == [41, 42, 43, 44, 45]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["index"]["documents"] for answer in answers}) > 1
    wait_until(lambda: [index.closed for index in made] == [True] * 5 + [False])


def test_the_old_index_stays_open_for_who_is_still_asking(twin, live, wait_until):
    entered, go_on = threading.Event(), threading.Event()

    class Slow(twin):
        def search(self, *args, **kwargs):
            entered.set()
            assert go_on.wait(20)
            assert not self.closed
            return super().search(*args, **kwargs)

    made = []
    server = live(
        lambda: made.append(Slow() if not made else twin(documents=7)) or made[-1], admin_keys=(ADMINISTRATOR,)
    )
    server.client.headers["Authorization"] = f"Bearer {ADMINISTRATOR}"
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(server.ask)
        assert entered.wait(10)
        assert reload(server).json()["documents"] == 7
        assert server.ask().json()["index"]["documents"] == 7
        assert not made[0].closed
        go_on.set()
        assert asked.result().json()["index"]["documents"] == 40
    wait_until(lambda: made[0].closed)


def test_two_reloads_at_once_are_one(twin, live):
    opening, go_on = threading.Event(), threading.Event()
    made = []

    def open_index():
        if made:
            opening.set()
            assert go_on.wait(20)
        made.append(twin())
        return made[-1]

    server = live(open_index, admin_keys=(ADMINISTRATOR,))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(reload, server)
        assert opening.wait(10)
        second = reload(server)
        go_on.set()
        assert first.result().status_code == 200
    assert (second.status_code, second.json()["error"]["code"]) == (409, "reload_under_way")
    assert len(made) == 2


def test_only_an_administrator_reloads(twin, live):
    server = live(twin(), api_keys=(READER,), admin_keys=(ADMINISTRATOR,))
    for key, status, code in ((READER, 403, "admin_key_required"), ("no-such-key-at-all", 401, "invalid_api_key")):
        refused = reload(server, key=key)
        assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)
    assert reload(server, name="none").status_code == 404
    assert server.client.get("/v1/indexes", headers={"Authorization": f"Bearer {ADMINISTRATOR}"}).status_code == 200


def test_without_keys_nobody_reloads(twin, live):
    refused = live(twin()).client.post("/v1/indexes/default/reload")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "admin_key_required")
    assert "HEADWATER_ADMIN_KEYS" in refused.json()["detail"]


def test_a_new_version_that_the_model_cannot_serve_is_not_taken(twin, live):
    def fails(_):
        raise FloatingPointError

    made = []
    server = live(lambda: made.append(twin(before=fails) if made else twin()) or made[-1], admin_keys=(ADMINISTRATOR,))
    assert reload(server).json()["error"]["code"] == "reload_failed"
    assert [index.closed for index in made] == [False, True]
    server.client.headers["Authorization"] = f"Bearer {ADMINISTRATOR}"
    assert server.ask().status_code == 200


@pytest.fixture
def moving(tmp_path, index_folder):
    """A link to a copy of the index, as an operator would serve it."""
    shutil.copytree(index_folder, tmp_path / "v1")
    (tmp_path / "current").symlink_to("v1")
    return tmp_path / "current"


def lead_to(link, target):
    link.unlink()
    link.symlink_to(target)


def test_a_link_that_was_moved_is_followed_and_a_damaged_index_is_not(moving, index_folder, live):
    model = index_folder.parent / "model"
    build_index(
        str(model),
        str(index_folder.parent / "corpus.jsonl"),
        moving.parent / "v2",
        BuildOptions(rank=2, moment_tokens=1024),
        device="cpu",
    )
    server = live(lambda: Index.open(moving, device="cpu"), admin_keys=(ADMINISTRATOR,))
    server.client.headers["Authorization"] = f"Bearer {ADMINISTRATOR}"
    before = server.client.get("/v1/indexes/default").json()

    shutil.copytree(moving.parent / "v2", moving.parent / "broken")
    rows = moving.parent / "broken" / "search.faiss"
    rows.write_bytes(rows.read_bytes()[:-1] + b"x")
    lead_to(moving, "broken")
    refused = reload(server)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "reload_failed")
    assert "search.faiss" in refused.json()["detail"]
    assert server.client.get("/v1/indexes/default").json() == before
    assert server.ask(" floods a lake", prompt="The river").status_code == 200

    lead_to(moving, "v2")
    shutil.rmtree(moving.parent / "broken")
    after = reload(server).json()
    assert (before["method"]["projection"]["rank"], after["method"]["projection"]["rank"]) == (4, 2)
    answer = server.ask(" floods a lake", prompt="The river").json()
    assert answer["index"]["version"] == after["version"] != before["version"]


def test_indexes_of_the_same_weights_share_one_model(index_folder):
    first = Index.open(index_folder, device="cpu")
    second = Index.open(index_folder, device="cpu", loaded=[first.checkpoint])
    assert second.checkpoint is first.checkpoint
    assert (
        first.rows([first.encode("The river", " floods")]) == second.rows([second.encode("The river", " floods")])
    ).all()
    for index in (first, second):
        index.close()
