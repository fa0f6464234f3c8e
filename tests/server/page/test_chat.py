"""The model is asked through the gateway: its words as they come, then their documents, or why there are none."""

import re

import pytest
from playwright.sync_api import expect

from headwater_server.errors import OutOfMemory

SAID = "the river feeds the mill"


@pytest.fixture
def gateway(live, open_books, upstream):
    def start(model="twin", index=None, **settings):
        settings = {"upstream": upstream, "upstream_model": (model,), **settings}
        return live(index or open_books, **settings)

    return start


@pytest.fixture
def ask(visit):
    def ask(server, fragment="", prompt="Who feeds whom?"):
        page = visit(server, fragment)
        expect(page.get_by_label("Ask the model")).to_be_checked()
        page.get_by_label("Prompt").fill(prompt)
        page.get_by_role("button", name="Ask the model").click()
        return page

    return ask


def state(page, name):
    place = page.locator(f"#state[data-state='{name}']")
    expect(place).to_be_visible()
    return place


def test_the_model_is_asked_and_its_answer_attributed(gateway, ask, shoot):
    server = gateway()
    page = ask(server, "#top=5&compare=bm25")
    expect(page.locator("#said")).to_have_text(SAID)
    expect(page.locator("#said-prompt")).to_have_text("Who feeds whom?")
    question = {"prompt": "Who feeds whom?", "response": SAID, "top_k": 5}
    expected = [one["document_id"] for one in server.client.post("/v1/attribute", json=question).json()["data"]]
    expect(page.locator(".lists > .documents .document-id")).to_have_text(expected)
    expect(page.locator(".baseline .document").first).to_be_visible()
    expect(page.get_by_text("Shaded by what document 1 does")).to_be_visible()
    shoot(page, "chat")
    page.get_by_role("option", name="mill").click()  # and it can be asked about again
    expect(page.locator("#about")).to_have_text("About “mill” alone")
    expect(page.locator("#result")).to_have_attribute("aria-busy", "false")


def test_an_answer_of_the_gateway_is_found_again_by_its_address(gateway, ask, visit):
    server = gateway()
    page = ask(server, "#top=3")
    page.locator(".documents").wait_for()
    expect(page).to_have_url(re.compile("id=attr_"))
    again = visit(server, f"#{page.url.split('#')[1]}")
    expect(again.locator(".document-id")).to_have_text(page.locator(".document-id").all_inner_texts())
    expect(again.get_by_label("Prompt")).to_have_value("")


def test_an_answer_that_is_no_longer_kept_says_so(gateway, visit, watched):
    watched.expected = ("404",)
    page = visit(gateway(), "#id=attr_gone")
    state(page, "gone")


def test_a_conversation_goes_through_the_chat_template(gateway, twin, ask):
    class ChattingTwin(twin):
        def encode_messages(self, messages, response, *, span=None):
            return self.encode(" ".join(message["content"] for message in messages), response, span=span)

    index = ChattingTwin()
    index.takes_messages = True
    page = ask(gateway(index=index))
    expect(page.locator("#said")).to_have_text(SAID)
    expect(page.locator(".document")).to_have_count(10)
    expect(page.get_by_text("this index keeps no factors")).to_be_visible()


def test_stopping_asks_about_what_was_said(gateway, ask):
    page = ask(gateway("slow"))
    state(page, "answering")
    expect(page.locator("#said")).to_have_text("the river feeds")
    page.get_by_role("button", name="Stop here").click()
    page.locator(".documents").wait_for()
    expect(page.locator("#said")).to_have_text("the river feeds")


def test_another_model_s_answer_stands_without_documents(gateway, ask, shoot):
    page = ask(gateway("impostor"))
    expect(state(page, "wrong-model")).to_contain_text("another model than the index")
    expect(page.locator("#said")).to_have_text(SAID)
    shoot(page, "wrong-model")


def test_an_answer_that_cannot_be_attributed_can_be_asked_about_again(gateway, open_books, ask):
    index = open_books()
    search, failures = index.influences, [OutOfMemory("once")]

    def influences(*given):
        if failures:
            raise failures.pop()
        return search(*given)

    index.influences = influences
    page = ask(gateway(index=index))
    place = state(page, "unattributed")
    place.get_by_role("button", name="Try again").click()
    page.locator(".documents").wait_for()


@pytest.mark.parametrize(("model", "sentence"), [("hang-up", "broke its answer off"), ("500", "no"), ("400", "no")])
def test_an_endpoint_that_fails_leaves_the_question_there(gateway, ask, watched, model, sentence, shoot):
    watched.expected = ("status of 50", "status of 400")
    page = ask(gateway(model))
    expect(state(page, "upstream")).to_contain_text(sentence)
    expect(page.get_by_label("Prompt")).to_have_value("Who feeds whom?")
    shoot(page, f"upstream-{model}")


def test_an_endpoint_that_breaks_off_says_so(gateway, ask, watched):
    watched.expected = ("ERR_INCOMPLETE",)
    page = ask(gateway("dies"))
    state(page, "upstream")


def test_without_a_gateway_the_page_says_so_calmly(library, visit):
    page = visit(library)
    expect(page.get_by_text("No language model is connected.")).to_be_visible()
    expect(page.get_by_label("Ask the model")).to_be_disabled()
    expect(page.get_by_label("Paste an answer")).to_be_checked()
