"""Many questions at once: the answers of one by one, in order, each with its own error."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from headwater.types import BatchAttribution

GOOD = {"prompt": "The river", "response": " floods a lake", "top_k": 4}


def ask(server, *questions):
    return server.client.post("/v1/attribute/batch", json={"questions": list(questions)})


def test_a_batch_is_answered_as_one_by_one(real_live):
    questions = [{**GOOD, "response": f" floods a lake in year {1900 + n}" + " again" * (n % 5)} for n in range(20)]
    batch = BatchAttribution.model_validate(ask(real_live, *questions).json())
    for position, (question, item) in enumerate(zip(questions, batch.data, strict=True)):
        alone = real_live.client.post("/attribute", json=question).json()["data"]
        assert (item.position, item.status, item.error) == (position, 200, None)
        assert [one.document_id for one in item.attribution.data] == [one["document_id"] for one in alone]
        assert [one.score for one in item.attribution.data] == pytest.approx([one["score"] for one in alone], rel=1e-4)


def test_each_question_has_its_own_error(real_live):
    broken = [{**GOOD, "index": "none"}, {**GOOD, "response": " x" * 900}, {**GOOD, "top_k": 61}]
    items = ask(real_live, broken[0], GOOD, *broken[1:], GOOD).json()["data"]
    assert [item["status"] for item in items] == [404, 200, 422, 422, 200]
    codes = [item["error"] and item["error"]["code"] for item in items]
    assert codes == ["index_not_found", None, "too_long", "top_k_above_documents", None]
    assert [item["attribution"] is None for item in items] == [True, False, True, True, False]


def test_one_that_the_model_cannot_bear_and_those_without_room(twin, live):
    def before(pairs):
        if any(sum(map(ord, "broken")) in pair.input_ids for pair in pairs):
            raise FloatingPointError("secret text of the question")

    server = live(twin(before=before))
    questions = [{"prompt": "", "response": word, "top_k": 3} for word in ("whole", "broken", "fine")]
    answer = ask(server, *questions)
    assert [item["status"] for item in answer.json()["data"]] == [200, 500, 200]
    assert answer.json()["data"][1]["error"]["code"] == "internal_error"
    assert "secret" not in answer.text


def test_what_finds_no_room_is_told_when_to_come_back(twin, live):
    server = live(twin(), max_queue_requests=2)
    questions = [{"prompt": "", "response": f"word {n}", "top_k": 3} for n in range(40)]
    items = ask(server, *questions).json()["data"]
    assert {item["status"] for item in items} == {200, 429}
    assert all(item["retry_after"] >= 1 and item["error"]["code"] == "queue_full" for item in items if item["error"])


def test_a_batch_that_cannot_be_meant_names_the_question(real_live):
    answer = ask(real_live, GOOD, {**GOOD, "response": ""})
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "questions.1.response")
    for count in (0, 65):
        assert ask(real_live, *[GOOD] * count).status_code == 422


def test_batches_at_once_are_all_answered(real_live):
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: ask(real_live, *[GOOD] * 16).json()["data"], range(4)))
    assert all(item["status"] == 200 for items in answers for item in items)
