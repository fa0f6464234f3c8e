"""A person asks about an answer: what stands on the page is what the server says, and every control asks again."""

import json
import re

import pytest
from playwright.sync_api import expect

from headwater_indexer.index import Index

RESPONSE = " floods a lake in year 1913"


@pytest.fixture
def asked(library):
    """What the server itself answers."""

    def ask(**fields):
        question = {"prompt": "The river", "response": RESPONSE, "top_k": 10}
        return library.client.post("/v1/attribute", json=question | fields).json()

    return ask


def shown(page, within="#result .lists > .documents"):
    return page.locator(f"{within} .document-id").all_inner_texts()


def ids(answer):
    return [one["document_id"] for one in answer["data"]]


def test_the_documents_of_an_answer_stand_beside_it(library, visit, find, asked, shoot):
    page = visit(library)
    find(page)
    answer = asked()
    assert shown(page) == ids(answer)
    first = page.locator(".document").first
    expect(first).to_contain_text(f"from {answer['data'][0]['source']}")
    expect(first).to_contain_text(f"percentile {answer['data'][0]['percentile']:.2f}".rstrip("0"))
    score = float(first.locator(".score").inner_text().split()[-1].replace("\u2212", "-").replace(",", ""))
    assert score == pytest.approx(answer["data"][0]["score"], rel=6e-3)
    answered, listed = page.locator("#reading").bounding_box(), page.locator(".documents").bounding_box()
    assert answered["x"] + answered["width"] < listed["x"]
    expect(page.get_by_text("A score is an estimate")).to_be_visible()
    shoot(page, "answer")


def test_the_charts_say_what_the_server_says(library, visit, find, asked):
    page = visit(library)
    find(page)
    answer = asked(histogram=True)
    sources = page.locator(".sources li")
    assert sources.count() == len(answer["sources"])
    for row, source in zip(sources.all(), answer["sources"], strict=True):
        expect(row).to_contain_text(source["source"] or "no source")
        share = float(row.locator(".source-share").inner_text().rstrip("%")) / 100
        assert share == pytest.approx(source["share"], abs=6e-4)
        part = row.locator(".bar-fill").bounding_box()["width"] / row.locator(".bar").bounding_box()["width"]
        assert part == pytest.approx(source["share"], abs=0.02)
    bars = page.locator(".bin")
    assert bars.count() == len(answer["histogram"]["counts"])
    empty = [float(bar.get_attribute("height")) == 0 for bar in bars.all()]
    assert empty == [count == 0 for count in answer["histogram"]["counts"]]
    expect(page.get_by_role("img", name=re.compile("Scores of 24 documents"))).to_be_visible()


def test_words_are_shaded_on_both_sides_by_the_document_looked_into(library, visit, find, asked):
    page = visit(library)
    find(page)
    second = asked()["data"][1]["document_id"]
    page.get_by_role("button", name="Shade its words").nth(1).click()
    expect(page.locator("#shading")).to_contain_text("Shaded by what document 2 does")
    question = {"prompt": "The river", "response": RESPONSE, "document_ids": [second]}
    [explained] = library.client.post("/v1/explain", json=question).json()["data"]
    for place, tokens in (("#said", explained["response"]), (".looked-into .document-text", explained["document"])):
        strongest = max(
            (token for token in tokens if token["start"] is not None), key=lambda token: abs(token["influence"])
        )
        sign = "for" if strongest["influence"] > 0 else "against"
        darkest = page.locator(f"{place} .{sign}-5")
        assert strongest["text"].strip() in " ".join(darkest.all_inner_texts())
    assert page.locator(".document .shade").count() == page.locator(".looked-into .shade").count() > 0
    page.locator(".looked-into .look").click()  # once more: no longer
    expect(page.locator(".document .shade")).to_have_count(0)


def test_choosing_words_asks_about_them_alone(library, visit, find, asked):
    page = visit(library)
    find(page)
    page.get_by_role("option", name="lake").click()
    expect(page.locator("#about")).to_have_text("About “lake” alone")
    start = RESPONSE.index("lake")
    expect(page.locator(".document-id")).to_have_text(ids(asked(span={"start": start, "stop": start + 4})))
    page.wait_for_load_state("networkidle")  # what an answer still draws may move the words
    page.get_by_role("option", name="year").hover()
    page.mouse.down()
    page.get_by_role("option", name="1913").hover(position={"x": 30, "y": 10})
    page.mouse.up()
    expect(page.locator("#about")).to_have_text("About “year 1913” alone")
    start = RESPONSE.index("year")
    expect(page.locator(".document-id")).to_have_text(ids(asked(span={"start": start, "stop": len(RESPONSE)})))
    page.get_by_role("button", name="Whole answer").click()
    expect(page.locator(".document-id")).to_have_text(ids(asked()))
    expect(page.locator("#about")).to_have_text("Choose words to ask about them alone.")


def test_influence_against_it_other_scores_and_counts_ask_again(library, visit, find, asked, shoot):
    page = visit(library)
    find(page)
    page.get_by_text("against it").click()
    expect(page.locator(".document-id")).to_have_text(ids(asked(sign="negative")))
    expect(page.locator(".score").first).to_contain_text("\u2212")
    shoot(page, "against")
    page.get_by_label("Score", exact=True).select_option("influence")
    expect(page.locator(".document-id")).to_have_text(ids(asked(sign="negative", score="influence")))
    page.get_by_role("spinbutton", name="Documents").fill("3")
    page.keyboard.press("Enter")
    expect(page.locator(".document-id")).to_have_text(ids(asked(sign="negative", score="influence", top_k=3)))
    page.get_by_role("spinbutton", name="Documents").fill("900")  # more than there are
    page.keyboard.press("Tab")
    expect(page.locator(".document-id")).to_have_count(24)


def test_one_source_alone_is_searched(library, visit, find, asked):
    page = visit(library)
    find(page)
    page.get_by_role("button", name="book 2").click()
    only = {"must": [{"key": "source", "equals": "book 2"}]}
    expect(page.locator(".document-id")).to_have_text(ids(asked(filters=only, top_k=10)))
    expect(page.get_by_label("Source")).to_have_value("book 2")
    expect(page.locator(".footnote")).to_contain_text("6 of 24 documents searched")


def test_another_index_of_the_server_can_be_asked(library, live, open_books, index_folder, visit, find):
    expect(visit(library).get_by_label("Index", exact=True)).to_be_disabled()
    server = live(open_books, lambda: Index.open(index_folder, device="cpu"))
    page = visit(server)
    find(page)
    expect(page.locator("#served")).to_contain_text("24 documents")
    page.get_by_label("Index", exact=True).select_option("second")
    question = {"prompt": "The river", "response": RESPONSE, "top_k": 10, "index": "second"}
    expect(page.locator(".document-id")).to_have_text(ids(server.client.post("/v1/attribute", json=question).json()))
    expect(page.locator("#served")).to_contain_text("60 documents")
    assert page.url.split("#")[1] == "index=second"
    again = visit(server, "#index=second")
    expect(again.locator("#served")).to_contain_text("60 documents")
    expect(again.get_by_label("Index", exact=True)).to_have_value("second")


def test_bm25_stands_beside_it(library, visit, find, asked, shoot):
    page = visit(library, width=1440)
    find(page)
    page.get_by_label("Beside BM25").check()
    baseline = page.locator(".baseline")
    words = [one for one in asked(method="bm25")["data"] if one["score"] > 0]
    expect(baseline.locator(".document-id")).to_have_text([one["document_id"] for one in words])
    influential = ids(asked())
    rank = influential.index(words[0]["document_id"]) + 1 if words[0]["document_id"] in influential else None
    said = f"{rank}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(rank, 'th') } by influence" if rank else "not found by influence"
    expect(baseline.locator(".document").first).to_contain_text(said)
    one, other = page.locator(".documents").first.bounding_box(), baseline.bounding_box()
    assert one["x"] + one["width"] <= other["x"]
    shoot(page, "bm25")


def test_the_answer_can_be_downloaded(library, visit, find, asked):
    page = visit(library)
    expect(page.get_by_role("button", name="Download JSON")).to_be_disabled()
    find(page)
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download JSON").click()
    assert re.fullmatch(r"attr_\w+\.json", waiting.value.suggested_filename)
    found = json.loads(waiting.value.path().read_text("utf-8"))
    assert (found["question"]["response"], found["question"]["top_k"]) == (RESPONSE, 10)
    assert ids(found["attribution"]) == ids(asked())
    assert [one["document_id"] for one in found["explanations"]] == ids(asked())[:1]


def test_the_address_keeps_the_state_and_never_the_prompt(library, visit, find, asked):
    page = visit(library, "#sign=negative&top=4&score=cosine&nonsense=1")
    find(page)
    expect(page.locator(".document-id")).to_have_text(ids(asked(sign="negative", top_k=4, score="cosine")))
    page.get_by_label("Beside BM25").check()
    expect(page.locator(".baseline")).to_be_visible()
    assert page.url.split("#")[1] == "top=4&score=cosine&sign=negative&compare=bm25"
    page.evaluate("location.hash = '#top=2'")
    expect(page.locator(".lists > .documents .document-id")).to_have_text(ids(asked(top_k=2)))
    page.go_back()
    again = visit(library, f"#{page.url.split('#')[1]}")
    expect(again.get_by_label("against it")).to_be_checked()
    expect(again.get_by_label("Beside BM25")).to_be_checked()
    expect(again.get_by_label("Prompt")).to_have_value("")


def test_a_long_text_unfolds_and_metadata_opens(library, visit, find):
    page = visit(library, "#top=24", width=500)
    find(page)
    long = page.locator(".document", has=page.get_by_text("river/5", exact=True))
    text = long.locator(".document-text")
    expect(text).to_contain_text("in year 1914")
    folded = text.bounding_box()["height"]
    long.get_by_role("button", name="Show all").click()
    assert text.bounding_box()["height"] > folded
    long.get_by_text("Metadata").click()
    expect(long.locator(".facts")).to_have_text("page5")


def test_another_question_begins_anew(library, visit, find):
    page = visit(library)
    find(page)
    page.get_by_role("button", name="New question").click()
    expect(page.get_by_label("Prompt")).to_be_focused()
    expect(page.get_by_text("Every answer has its headwaters")).to_be_visible()
    page.get_by_label("Answer", exact=True).fill("")
    page.get_by_role("button", name="Find the documents").click()
    expect(page.get_by_text("Paste what the model answered.")).to_be_visible()
    find(page, " leaves the mill")
    expect(page.locator("#said").get_by_role("option")).to_have_text(["leaves", "the", "mill"])
