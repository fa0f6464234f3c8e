"""Every block of the README and of the pages in docs/ is run, checked, or says why it cannot be."""

import re
from pathlib import Path

import pytest
from doc_blocks import KINDS, PAGES, ROOT, RUN, Block, indented_code, names_of, read_blocks
from doc_checks import CHECKS, messages_of, printed_at_the_end

MOST_NOT_RUN = 6  # of all pages; each says why
EMPTY = "<!-- place: empty -->"  # the page makes its own index and server


def runs(block: Block, *, slow: bool) -> bool:
    return block.language in RUN and block.kind in ("", "slow", "fails") and (slow or block.kind != "slow")


def has_slow(page: Path) -> bool:
    return any(block.kind == "slow" for block in read_blocks(page))


QUICK = [page for page in PAGES if any(runs(block, slow=False) for block in read_blocks(page))]
SLOW = [page for page in PAGES if has_slow(page)]


@pytest.mark.parametrize("page", QUICK, ids=names_of(QUICK))
def test_a_page_can_be_followed(page, open_page):
    follow(page, open_page, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", SLOW, ids=names_of(SLOW))
def test_a_page_can_be_followed_in_all(page, open_page):
    follow(page, open_page, slow=True)


def follow(page, open_page, *, slow):
    blocks = read_blocks(page)
    empty = EMPTY in page.read_text("utf-8")
    starts_one = any("headwater-serve my.index" in block.text for block in blocks if runs(block, slow=slow))
    reader = open_page(empty=empty, served=not (empty or starts_one))
    followed = False
    for block in blocks:
        if block.kind == "output":
            assert not followed or printed_at_the_end(block.text, reader.printed), f"{block}:\n{reader.printed}"
        elif followed := runs(block, slow=slow):
            reader.follow(block)


@pytest.mark.parametrize("page", PAGES, ids=names_of(PAGES))
def test_every_block_is_accounted_for(page):
    for block in read_blocks(page):
        assert block.kind in ("", *KINDS), f"{block}: {block.kind} is none of {KINDS}"
        assert block.kind or block.language in RUN, f"{block}: a {block.language} block says what it is"
        assert block.rest or block.kind in ("", "slow", "output"), f"{block}: {block.kind} wants more said"
    code = [line for line in indented_code(page) if not (page.name == "README.md" and in_the_tree(page, line))]
    assert not code, f"{page.name}: lines {code} are code without a fence"


def in_the_tree(page, line):
    lines = page.read_text("utf-8").splitlines()
    return line > lines.index("The tree:")


def test_few_blocks_are_not_run():
    not_run = [block for page in PAGES for block in read_blocks(page) if block.kind == "not run"]
    assert len(not_run) <= MOST_NOT_RUN, [f"{block}: {block.rest}" for block in not_run]


DATA = [block for page in PAGES for block in read_blocks(page) if block.kind == "is"]


@pytest.mark.parametrize("block", DATA, ids=map(str, DATA))
def test_data_is_what_it_is_said_to_be(block, tmp_path):
    CHECKS[block.rest](block.text, tmp_path)


SAID = [block for page in PAGES for block in read_blocks(page) if block.kind == "said by"]


@pytest.mark.parametrize("block", SAID, ids=map(str, SAID))
def test_messages_are_the_code_s_own(block):
    known = messages_of(ROOT / block.rest)
    for line in filter(None, block.text.splitlines()):
        message = re.sub(r"^(headwater[\w-]*|error): (error: )?", "", line)
        assert any(pattern.fullmatch(message) for pattern in known), line


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ("```sh\nheadwater attribute --no-such-option\n```\n", r"page\.md:1 ended with 2 and not 0"),
        ("```sh\necho one\n```\n\n<!-- output -->\n```text\ntwo\n```\n", r"page\.md:6:\n *one"),
    ],
)
def test_a_block_that_is_wrong_is_told(wrong, complaint, tmp_path, open_page):
    page = tmp_path / "page.md"
    page.write_text(f"{wrong}\n{EMPTY}\n")
    with pytest.raises(AssertionError, match=complaint):
        follow(page, open_page, slow=False)
