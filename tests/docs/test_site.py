"""The site builds strictly, has a reference of all that there is, and asks nothing of another origin."""

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from doc_blocks import ROOT
from test_options import commands


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    # In a process of its own: a module of the benchmarks has the theme's name.
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", folder]
    built = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    return folder


class Loaded(HTMLParser):
    """What a browser loads with a page: not the links that people follow."""

    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag not in ("a", "form"):
            self.addresses += [given[name] for name in ("src", "href", "data", "poster") if given.get(name)]


def test_nothing_is_loaded_from_another_origin(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 6
    for page in pages:
        text = page.read_text("utf-8")
        loaded = Loaded()
        loaded.feed(text)
        assert len(loaded.addresses) > 3
        assert not [address for address in loaded.addresses if re.match(r"(https?:)?//", address)], page
        assert 'class="mermaid"' not in text  # the theme would fetch what draws it
        assert "data-md-component=source" not in text  # nor ask a repository's host for its stars
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import )['\"]?(https?:)?//", sheet.read_text("utf-8")), sheet


def test_every_call_and_every_schema_has_its_place(site):
    api = json.loads((ROOT / "tests" / "server" / "openapi.json").read_text())
    page = (site / "reference" / "http" / "index.html").read_text("utf-8")
    for path, methods in api["paths"].items():
        for method in methods:
            assert f"<code>{method.upper()} {path}</code>" in page
    for name, schema in api["components"]["schemas"].items():
        assert f'<h3 id="{name.lower()}">' in page
        assert all(f"<code>{field}</code>" in page for field in schema.get("properties", {}))


def test_every_command_and_option_has_its_place(site):
    page = (site / "reference" / "commands" / "index.html").read_text("utf-8")
    for command, options in commands():
        assert re.search(rf'<h[23] id="{command.replace(" ", "-")}">', page), command
        assert all(f"<code>{option}</code>" in page for option in options)


def test_every_question_of_the_sdk_has_its_place(site):
    from headwater import Client

    page = (site / "reference" / "sdk" / "index.html").read_text("utf-8")
    questions = [name for name, value in vars(Client).items() if hasattr(value, "__wrapped__")]
    assert len(questions) >= 9
    for name in questions:
        assert f'id="headwater.calls.{name}"' in page
    for name in ("APIError", "RateLimitError", "GatewayTimeoutError"):
        assert f'id="headwater.errors.{name}"' in page
