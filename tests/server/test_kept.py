"""Attributions kept for a while: found under their id, waited for, bounded, and forgotten."""

import asyncio
import time

import pytest

from headwater.types import AttributeRequest, Attribution
from headwater_server.kept import KeptAttributions
from headwater_server.problems import ProblemError


@pytest.fixture
def answer(twin, live):
    """A real answer of a server."""
    return Attribution.model_validate(live(twin()).ask().json())


def named(answer, identity):
    return answer.model_copy(update={"id": identity})


def test_what_is_still_made_is_waited_for_by_all_who_ask(answer):
    async def run():
        kept = KeptAttributions()
        identity = kept.expect()
        asking = [asyncio.create_task(kept.get(identity)) for _ in range(3)]
        await asyncio.sleep(0.01)
        assert not any(task.done() for task in asking)
        kept.keep(named(answer, identity))
        first, *others = await asyncio.gather(*asking)
        assert type(answer).model_validate_json(first) == named(answer, identity)
        assert others == [first, first] == [await kept.get(identity)] * 2

    asyncio.run(run())


def test_a_failure_is_told_to_all_who_ask_and_is_final(answer):
    async def run():
        kept = KeptAttributions()
        identity = kept.expect()
        kept.fail(identity, ProblemError(422, "too_long", "Too long."))
        kept.keep(named(answer, identity))
        for _ in range(2):
            with pytest.raises(ProblemError, match="Too long"):
                await kept.get(identity)

    asyncio.run(run())


def test_count_bytes_and_age_are_bounded_and_the_oldest_go(answer):
    async def run():
        now = 0.0
        size = len(named(answer, "attr_" + "0" * 24).model_dump_json().encode())
        kept = KeptAttributions(max_count=5, max_bytes=3 * size, max_age=10, clock=lambda: now)
        ids = [kept.expect() for _ in range(5)]
        for identity in ids:
            kept.keep(named(answer, identity))
        assert len(kept) == 3
        ids += [kept.expect() for _ in range(4)]
        assert len(kept) == 5
        with pytest.raises(ProblemError, match="No attribution is kept"):
            await kept.get(ids[3])
        assert await kept.get(ids[4])
        now = 10.5
        with pytest.raises(ProblemError, match="or no longer"):
            await kept.get(ids[4])
        assert len(kept) == 0

    asyncio.run(run())


def test_whoever_waits_for_what_is_pushed_out_is_told():
    async def run():
        kept = KeptAttributions(max_count=1)
        asking = asyncio.create_task(kept.get(kept.expect()))
        await asyncio.sleep(0)
        kept.expect()
        with pytest.raises(ProblemError, match="No attribution is kept"):
            await asyncio.wait_for(asking, 5)

    asyncio.run(run())


def test_the_endpoint_answers_404_and_in_time(twin, live):
    server = live(twin(), request_timeout=0.3)
    missing = server.client.get("/v1/attributions/attr_0")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "attribution_not_found")
    began = time.monotonic()
    late = server.client.get(f"/v1/attributions/{server.engine.kept.expect()}")
    assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_passed")
    assert 0.3 <= time.monotonic() - began < 5


def test_the_endpoint_gives_the_answer_that_was_kept(twin, live):
    server = live(twin())
    identity = server.engine.kept.expect()
    expected = asyncio.run(server.engine.attribute(AttributeRequest(prompt="", response="some words", top_k=3)))
    server.engine.kept.keep(named(expected, identity))
    found = server.client.get(f"/v1/attributions/{identity}")
    assert found.status_code == 200
    assert found.json() == named(expected, identity).model_dump(mode="json")


def test_a_direct_answer_is_kept_as_it_was_given(twin, live):
    server = live(twin(), keep_attributions=2)
    answers = [server.ask(f"question {n}") for n in range(3)]
    first, *others = [server.client.get(f"/v1/attributions/{one.json()['id']}") for one in answers]
    assert (first.status_code, first.json()["error"]["code"]) == (404, "attribution_not_found")
    assert [one.content for one in others] == [one.content for one in answers[1:]]


def test_the_answers_of_a_batch_are_kept(twin, live):
    server = live(twin())
    questions = [{"prompt": "", "response": text, "top_k": 2} for text in ("one", " ", "three")]
    answers = server.client.post("/v1/attribute/batch", json={"questions": questions}).json()["data"]
    for one in (answers[0]["attribution"], answers[2]["attribution"]):
        assert server.client.get(f"/v1/attributions/{one['id']}").json() == one


def test_nothing_is_kept_where_that_is_wanted(twin, live):
    server = live(twin(), keep_attributions=0)
    assert server.client.get(f"/v1/attributions/{server.ask().json()['id']}").status_code == 404
    assert len(server.engine.kept) == 0
