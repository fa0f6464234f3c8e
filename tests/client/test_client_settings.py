"""Addresses and keys that a client accepts, refuses or warns of, and what `import headwater` costs."""

import subprocess
import sys
import time
import warnings

import pytest

from headwater import AsyncClient, Client, InsecureTransportWarning, errors


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("127.0.0.1:8000", "not an http or https address"),
        ("ftp://host", "not an http or https address"),
        ("http://", "not an http or https address"),
        ("http://host:99999", "impossible port"),
        ("http://host/?a=b", "has a query"),
        ("http://key@host", "the key as `api_key`"),
        ("http://host:0", "impossible port"),
        ("http://ho st", "not an http or https address"),
        ("http://[::1", "not an address"),
    ],
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_an_address_that_cannot_be_asked_is_refused(kind, url, complaint):
    with pytest.raises(ValueError, match=complaint):
        kind(url)


@pytest.mark.parametrize("options", [{"max_retries": -1}, {"timeout": 0.0}, {"timeout": float("nan")}])
def test_impossible_numbers_are_refused(options):
    with pytest.raises(ValueError, match=r"must not be negative.*must be positive"):
        Client(**options)


@pytest.mark.parametrize("key", ["two\nlines", "schlüssel"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(key):
    with pytest.raises(ValueError, match="no HTTP header can carry") as caught:
        Client(api_key=key)
    assert key not in str(caught.value)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_key_over_plain_http_to_another_host_is_warned_of(kind):
    with pytest.warns(InsecureTransportWarning, match=r"travels to far\.example over plain http") as caught:
        kind("http://far.example:8000", api_key="key")
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("https://far.example", "key"),
        ("http://far.example", ""),
        ("http://127.0.0.9:8000", "key"),
        ("http://localhost", "key"),
        ("http://[::1]:8000", "key"),
    ],
)
def test_no_warning_where_nobody_listens(url, key):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Client(url, api_key=key).base_url == url


def test_the_tree_at_the_top_of_errors_is_the_tree():
    drawn = {line.split("─ ")[1].split()[0] for line in errors.__doc__.splitlines() if "─ " in line}
    defined = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert drawn | {"HeadwaterError", "InsecureTransportWarning"} == defined


def test_import_loads_nothing_heavy_and_takes_no_time():
    program = "import sys, headwater; print(*sys.modules)"
    begun = time.monotonic()
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert time.monotonic() - begun < 1.0
    assert "headwater.client" in loaded
    assert not {"torch", "numpy", "rich", "typer", "fastapi", "transformers"} & set(loaded)
