"""On a phone, in the dark, by keyboard alone, from right to left: everything is there, nothing moves, nothing runs."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from headwater_server.guard import POLICY

AXE = Axe()


@pytest.mark.parametrize("upstream", [None, "http://127.0.0.1:1"])
def test_nothing_moves_by_itself_and_the_first_paint_is_soon(live, open_books, visit, find, upstream):
    server = live(open_books, upstream=upstream)
    for width in (360, 1280):
        page = visit(server, "#compare=bm25", width=width)
        find(page)
        page.wait_for_timeout(200)
        assert page.evaluate("window.shifted") == [], width
        painted = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        assert painted < 1000


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_checker_of_accessibility_finds_nothing(library, visit, find, scheme, shoot):
    page = visit(library, "#compare=bm25", color_scheme=scheme)
    expect(page.locator("#served")).not_to_be_empty()
    assert found_by_axe(page) == []
    find(page)
    page.get_by_role("option", name="lake").click()
    expect(page.locator("#result")).to_have_attribute("aria-busy", "false")
    expect(page.get_by_text("Shaded by what document 1 does")).to_be_visible()
    assert found_by_axe(page) == []
    shoot(page, f"answer-{scheme}")
    page.goto("/docs")
    page.locator(".call").first.wait_for()
    assert found_by_axe(page) == []


def found_by_axe(page):
    return [(one["id"], [node["target"] for node in one["nodes"]]) for one in AXE.run(page).response["violations"]]


def test_on_a_phone_nothing_sticks_out(library, visit, find, shoot):
    page = visit(library, "#compare=bm25", width=360, height=740, has_touch=True, is_mobile=True)
    shoot(page, "phone-empty")
    find(page)
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide == 360
    narrow = page.evaluate("""
        [...document.querySelectorAll('button, input:not([type=radio], [type=checkbox]), select, summary')]
          .filter((node) => node.offsetParent && node.getBoundingClientRect().height < 24).map((node) => node.outerHTML)
    """)
    assert narrow == []  # WCAG 2.2: targets of 24 pixels
    page.get_by_role("option", name="lake").tap()
    expect(page.locator("#about")).to_have_text("About “lake” alone")
    shoot(page, "phone-answer")


def test_everything_can_be_done_by_keyboard(library, visit, shoot):
    page = visit(library)
    expect(page.locator("#served")).not_to_be_empty()
    press = page.keyboard.press
    press("Tab")
    expect(page.locator("#skip")).to_be_focused()
    press("Enter")
    expect(page.locator("#found")).to_be_focused()
    assert "#" not in page.url
    page.locator("body").press("Shift+Tab")
    page.locator("#way-paste").focus()
    press("Tab")
    page.keyboard.type("The river")
    press("Tab")
    page.keyboard.type(" floods a lake in year 1913")
    press("Control+Enter")
    page.get_by_text("Shaded by what document 1 does").wait_for()
    expect(page.locator("#reading")).to_be_focused()
    press("Tab")
    expect(page.locator("#said")).to_be_focused()
    for key in ("ArrowRight", "ArrowRight", "Shift+ArrowRight"):
        press(key)
    shoot(page, "keyboard")
    press("Enter")
    expect(page.locator("#about")).to_have_text("About “lake in” alone")
    press("End")
    press("Enter")
    expect(page.locator("#about")).to_have_text("About “1913” alone")
    press("Escape")
    expect(page.locator("#about")).to_have_text("Choose words to ask about them alone.")
    press("Tab")
    expect(page.get_by_role("button", name="New question")).to_be_focused()
    press("Tab")
    press("ArrowRight")
    expect(page.get_by_label("against it")).to_be_checked()
    expect(page.locator("#result")).to_have_attribute("aria-busy", "false")
    expect(page.locator("#shading")).to_contain_text("Shaded by what document 1 does")
    page.get_by_role("button", name="Shade its words").nth(1).focus()
    press("Space")
    expect(page.locator("#shading")).to_contain_text("Shaded by what document 2 does")


def test_a_document_full_of_html_is_text(library, visit, find, shoot):
    page = visit(library, "#top=24")
    find(page)
    card = page.locator(".document", has=page.get_by_text("river/21", exact=True))
    card.get_by_role("button", name="Shade its words").click()
    expect(page.locator("#shading")).to_contain_text("Shaded")
    expect(card.locator(".document-text")).to_have_text(
        "<script>document.title = 'run'</script><img src=x onerror=\"document.title = 'run'\"><b>in a lake</b> & more"
    )
    assert page.title() == "Headwater"
    assert page.locator("#result script, #result img, #result b").count() == 0
    card.scroll_into_view_if_needed()
    shoot(page, "html")


def test_an_answer_full_of_html_is_text_too(library, visit, find):
    page = visit(library, "#source=%3Cb%3Ebook%3C/b%3E")
    expect(page.get_by_label("Source")).to_have_value("<b>book</b>")
    page.get_by_label("Source").fill("")
    find(page, "<img src=x onerror=alert(1)> lake", "<script>alert(1)</script>")
    expect(page.locator("#said")).to_have_text("<img src=x onerror=alert(1)> lake")
    assert page.locator("#reading img, #reading script").count() == 0


def test_right_to_left_and_emoji_keep_their_places(library, visit, find, shoot):
    page = visit(library, "#top=24")
    find(page, "النهر 🦊 يفيض على 🌊 البحيرة", "من؟")
    said = page.locator("#said")
    expect(said).to_have_css("direction", "rtl")
    said.focus()
    page.keyboard.press("ArrowLeft")  # on, where the text runs to the left
    page.keyboard.press("ArrowLeft")
    with page.expect_request("**/v1/attribute") as asked:
        page.keyboard.press("Enter")
    assert asked.value.post_data_json["span"] == {"start": 8, "stop": 12}  # in code points: the fox is one
    arabic = page.locator(".document", has=page.get_by_text("river/22", exact=True)).locator(".document-text")
    expect(page.get_by_text("Shaded by what document 1 does")).to_be_visible()
    expect(arabic).to_have_css("direction", "rtl")
    family = page.locator(".document", has=page.get_by_text("river/23", exact=True))
    family.get_by_role("button", name="Shade its words").click()
    expect(page.locator("#shading")).to_contain_text("Shaded")
    expect(family.locator(".document-text")).to_have_text("🌊 the 👩‍👩‍👧 lake floods 🦊")
    family.scroll_into_view_if_needed()
    shoot(page, "right-to-left")


def test_the_policy_lets_nothing_in(library, visit, watched):
    page = visit(library)
    answer = page.goto("/")
    assert answer.headers["content-security-policy"] == POLICY
    watched.expected = ("Content Security Policy", "violates")
    ran = page.evaluate("""
        new Promise((resolve) => {
          document.addEventListener("securitypolicyviolation", () => resolve("refused"), { once: true });
          const script = document.createElement("script");
          script.textContent = "document.title = 'run'";
          document.head.append(script);
          setTimeout(() => resolve(document.title), 1000);
        })
    """)
    assert ran == "refused"
