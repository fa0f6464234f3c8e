"""Each state has a sentence of its own, and a way out that works."""

import threading
import time

import httpx2
import pytest
from playwright.sync_api import expect

KEY = "a-key-of-enough-characters"


def state(page, name):
    place = page.locator(f"#state[data-state='{name}']")
    expect(place).to_be_visible()
    return place


def test_at_first_it_is_empty(library, visit, shoot):
    page = visit(library)
    expect(state(page, "empty")).to_contain_text("Every answer has its headwaters")
    expect(page.locator("#served")).to_contain_text("24 documents")
    shoot(page, "empty")


def test_while_the_index_is_opened_the_page_waits_and_goes_on(twin, live, visit, watched, shoot):
    watched.expected = ("503",)
    go_on = threading.Event()

    def open_slowly():
        assert go_on.wait(20)
        return twin()

    page = visit(live(open_slowly, wait=False))
    expect(state(page, "opening")).to_contain_text("The index is being opened")
    shoot(page, "opening")
    go_on.set()
    state(page, "empty")


def test_while_a_question_is_under_way_it_is_loading(twin, live, visit, paste, shoot):
    go_on = threading.Event()
    index = twin(before=lambda pairs: pairs[0].prompt_tokens and go_on.wait(20))
    page = visit(live(index))
    paste(page, "some words")
    expect(state(page, "loading")).to_contain_text("Following the answer upstream")
    shoot(page, "loading")
    go_on.set()
    page.locator(".documents").wait_for()
    expect(page.get_by_text("this index keeps no factors")).to_be_visible()


def test_overload_counts_down_and_asks_again(library, visit, paste, shoot, watched):
    """The server's own 429, with the seconds that it would say under a load that lasts."""
    watched.expected = ("429",)
    page = visit(library)
    refused = {"error": {"message": "Too many", "code": "queue_full"}, "detail": "Too many"}
    page.route(
        "**/v1/attribute", lambda route: route.fulfill(status=429, headers={"Retry-After": "2"}, json=refused), times=1
    )
    paste(page)
    expect(state(page, "overloaded")).to_contain_text("This one is asked again in 2 s.")
    shoot(page, "overloaded")
    expect(page.get_by_role("timer")).to_have_text("1")
    page.locator(".documents").wait_for()


def test_a_full_queue_is_met_with_patience(twin, live, visit, paste, watched):
    watched.expected = ("429",)
    go_on = threading.Event()
    server = live(twin(before=lambda pairs: pairs[0].prompt_tokens and go_on.wait(20)), max_queue_requests=1)

    def hold():
        with httpx2.Client(base_url=server.client.base_url, timeout=30) as client:
            question = {"prompt": "a", "response": "b", "top_k": 1}
            while client.post("/attribute", json=question).status_code == 429:  # both came before one was taken
                time.sleep(0.02)

    held = [threading.Thread(target=hold) for _ in range(2)]
    for thread in held:
        thread.start()
    page = visit(server)
    while server.engine.queue.waiting[0] == 0:
        page.wait_for_timeout(10)
    paste(page, "some words")
    state(page, "overloaded")
    go_on.set()
    page.locator(".documents").wait_for()
    for thread in held:
        thread.join()


def test_a_key_is_asked_for_and_kept_for_this_tab_alone(twin, live, visit, paste, watched, shoot):
    watched.expected = ("401",)
    server = live(twin(), api_keys=(KEY,))
    page = visit(server)
    place = state(page, "unauthorised")
    shoot(page, "unauthorised")
    place.get_by_label("API key").fill("a-wrong-key-of-enough-length")
    place.get_by_role("button", name="Use this key").click()
    expect(place).to_contain_text("The key was not accepted.")
    place.get_by_label("API key").fill(KEY)
    page.keyboard.press("Enter")
    state(page, "empty")
    paste(page, "some words")
    page.locator(".documents").wait_for()
    kept = page.evaluate("[Object.values(sessionStorage), Object.values(localStorage), document.cookie, location.href]")
    assert kept[0] == [KEY]
    assert KEY not in str(kept[1:])
    state(visit(server), "unauthorised")


def test_no_document_passes(library, visit, find, shoot):
    page = visit(library)
    find(page)
    page.get_by_label("Source").fill("no such book")
    page.keyboard.press("Enter")
    place = state(page, "none-pass")
    expect(place).to_contain_text("from the source “no such book”")
    shoot(page, "none-pass")
    place.get_by_role("button", name="Search all documents").click()
    expect(page.locator(".document")).to_have_count(10)


def test_a_server_that_is_gone_is_told_from_one_that_refuses(library, visit, paste, watched, shoot):
    watched.expected = ("ERR_FAILED", "422")
    page = visit(library)
    expect(page.locator("#served")).not_to_be_empty()
    page.route("**/v1/attribute", lambda route: route.abort(), times=1)
    paste(page)
    place = state(page, "unreachable")
    shoot(page, "unreachable")
    place.get_by_role("button", name="Try again").click()
    page.locator(".documents").wait_for()
    page.get_by_role("button", name="New question").click()
    paste(page, "very long " * 100)
    place = state(page, "refused")
    expect(place).to_contain_text("tokens")
    shoot(page, "refused")
    place.get_by_role("button", name="Change the question").click()
    expect(page.get_by_label("Answer", exact=True)).to_be_focused()
    expect(page.locator("#response-error")).to_contain_text("tokens")


def test_a_server_that_does_not_answer_at_first_is_tried_again(library, visit, watched):
    watched.expected = ("ERR_FAILED",)
    page = visit(library)
    page.route("**/v1/indexes", lambda route: route.abort(), times=1)
    page.reload()
    state(page, "unreachable").get_by_role("button", name="Try again").click()
    state(page, "empty")


@pytest.mark.parametrize(
    ("status", "code", "name"),
    [(504, "deadline_passed", "late"), (500, "internal_error", "failed"), (503, "draining", "failed")],
)
def test_a_server_in_trouble(library, visit, paste, watched, status, code, name):
    watched.expected = (str(status),)
    page = visit(library)
    problem = {"detail": "What went wrong.", "error": {"message": "What went wrong.", "code": code}}
    page.route("**/v1/attribute", lambda route: route.fulfill(status=status, json=problem), times=1)
    paste(page)
    state(page, name).get_by_role("button", name="Try again").click()
    page.locator(".documents").wait_for()


def test_text_that_is_withheld_is_said_to_be(live, open_books, visit, paste):
    page = visit(live(open_books, withhold_text=True))
    paste(page)
    expect(page.locator(".document").first).to_contain_text("This server tells no document\u2019s text.")
    expect(page.locator("#shading")).to_contain_text("this server tells no document\u2019s text")


def test_words_that_cannot_be_shaded_spoil_nothing(library, visit, paste, watched):
    watched.expected = ("500",)
    page = visit(library)
    problem = {"detail": "The server failed.", "error": {"message": "The server failed.", "code": "internal_error"}}
    page.route("**/v1/explain", lambda route: route.fulfill(status=500, json=problem), times=1)
    paste(page)
    expect(page.locator("#shading")).to_have_text("The words could not be shaded. The server failed.")
    page.get_by_role("button", name="Shade its words").first.click()
    expect(page.locator("#shading")).to_contain_text("Shaded by what document 1 does")
