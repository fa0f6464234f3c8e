"""The page and /docs: files of this server alone, nothing inline, and text that stays text."""

import re
from pathlib import Path

import pytest

from headwater_server.app import PAGE


@pytest.fixture
def client(twin, live):
    return live(twin()).client


@pytest.mark.parametrize(("path", "title"), [("/", "Headwater"), ("/docs", "Headwater: the HTTP interface")])
def test_a_page_comes_under_a_policy_that_its_files_keep(client, path, title):
    page = client.get(path)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert f"<title>{title}</title>" in page.text
    policy = page.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert not re.search(r"<script(?![^>]* src=)|<style| style=| on[a-z]+=|https?://", page.text)
    linked = re.findall(r'(?:src|href)="(/[^"]*)"', page.text)
    assert len(linked) >= 3
    for file in linked:
        assert client.get(file).status_code == 200, file


def test_scripts_load_from_here_and_write_no_markup(client):
    for script in PAGE.glob("*.js"):
        text = script.read_text("utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text), script
        text = text.replace("http://www.w3.org/2000/svg", "")  # a name, which nothing is loaded from
        assert "://" not in text, script
        for name in re.findall(r'from "\./([^"]+)"', text):
            answer = client.get(f"/page/{name}")
            assert answer.status_code == 200
            assert "javascript" in answer.headers["content-type"]


def test_a_person_reads_that_scores_are_estimates(client):
    assert "A score is an estimate" in client.get("/").text


def test_the_documentation_tells_every_state(client):
    titles = re.findall(r'^  "?[\w-]+"?: \["([^"]+)", ', client.get("/page/states.js").text, flags=re.MULTILINE)
    assert len(titles) > 12
    told = (Path(__file__).parents[2] / "docs" / "page.md").read_text("utf-8")
    assert not [title for title in titles if title not in told]


def test_only_files_of_the_page_are_served(client):
    for path in ("/page/", "/page/none.js", "/page/../app.py", "/page/..%2fapp.py", "/page//etc/passwd"):
        assert client.get(path).status_code == 404, path
