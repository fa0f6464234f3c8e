"""The `headwater` command: what it prints for people and for programs, and the code that it leaves with."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from headwater import __version__
from headwater.cli import app, main

QUESTION = ["attribute", "--prompt", "To be,", "--response", " or not"]
HOSTILE = (
    "[bold]not bold[/] [/x] \x1b[31mred\x1b[0m \x9b2J \u202eesrever \u200b:smile:\r\n\tnext \x00 \ue000 名前 👩‍👧 end"
)


@pytest.fixture
def headwater(server, capsys):
    """Run the command against the scripted server; gives (exit code, stdout, stderr)."""

    def run(*arguments: str, url: str | None = None) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(["--base-url", url or server.url, *arguments])
        out, err = capsys.readouterr()
        return left.value.code, out, err

    return run


def run_apart(*arguments: str, stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run the installed command in a process of its own."""
    command = [Path(sys.executable).with_name("headwater"), *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, env=os.environ | environment, check=False)


def test_every_command_and_option_is_documented():
    assert {command.callback.__name__ for command in app.registered_commands} == {
        "attribute",
        "attribution",
        "document",
        "documents",
        "explain",
        "reload",
        "indexes",
        "health",
    }
    for command in app.registered_commands:
        assert (command.callback.__doc__ or "").strip().endswith("."), command.callback.__name__
        for name, annotation in command.callback.__annotations__.items():
            if hasattr(annotation, "__metadata__"):
                assert annotation.__metadata__[0].help, f"{command.callback.__name__} {name}"


def test_attribute_is_a_ranked_table_with_credit_and_caveat(server, headwater, attribution, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    server.reply(attribution)
    code, out, err = headwater(*QUESTION, "--top-k", "2", "--sign", "negative")
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["rank", "score", "percentile", "document", "source", "text"]
    assert lines[1] == ["1", "12.40", "99.98", "d1", "Hamlet", "To", "be"]
    assert lines[2] == ["2", "3.100", "50.00", "d2", "or", "not"]
    assert ["80.0%", "1", "Hamlet"] in lines
    assert ["20.0%", "1", "(no", "source)"] in lines
    assert "Scores are estimates of influence, and no proof" in out
    assert (code, err) == (0, "")
    assert (server.asked[0].json["top_k"], server.asked[0].json["sign"]) == (2, "negative")


def test_options_of_a_question_travel(server, headwater, attribution):
    server.reply(attribution)
    filters = '{"must": [{"key": "source", "equals": "Hamlet"}]}'
    code, _, err = headwater(*QUESTION, "--span", "1:3", "--filters", filters, "--rescore", "50")
    assert (code, err) == (0, "")
    sent = server.asked[0].json
    assert (sent["span"], sent["filters"], sent["rescore"]) == ({"start": 1, "stop": 3}, json.loads(filters), 50)
    assert "method" not in sent


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--span", "3"], "--span takes START:STOP"),
        (["--span", "3:2"], "a `start` below its `stop`"),
        (["--filters", "{"], "--filters is not JSON"),
        (["--filters", "[]"], "--filters is not a JSON object"),
        (["--filters", '{"must": [{"key": "x", "equals": 1}]}'], "a key is `source`"),
        (["--method", "bm25", "--rescore", "50"], "a baseline takes no `rescore`"),
    ],
)
def test_options_that_cannot_be_meant(server, headwater, options, sentence, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("TERMINAL_WIDTH", "400")
    code, _, err = headwater(*QUESTION, *options)
    assert code == 2
    assert sentence in err
    assert server.asked == []


def test_explain_shows_the_strongest_tokens_of_both_sides(server, headwater, attribution):
    tokens = [{"text": f" word{n}", "start": n, "stop": n + 1, "influence": n / 10} for n in range(-12, 3)]
    explained = {"document_id": "d1", "score": 0.7, "document": tokens, "response": [tokens[-1] | {"text": HOSTILE}]}
    parts = {name: attribution[name] for name in ("model", "index", "usage", "timings_ms")}
    server.reply({"object": "explanation", **parts, "data": [explained]})
    code, out, _ = headwater("explain", "d1", *QUESTION[1:])
    assert code == 0
    assert out.splitlines()[0] == "d1: 0.7000"
    assert "-1.20  word-12" in out
    assert "word1" not in out.split()
    assert not set(out) & set("\x1b\x9b\u202e\u200b\x00")
    assert server.asked[0].json["document_ids"] == ["d1"]


def test_reload_shows_what_is_served_now(server, headwater, index_info):
    server.reply(index_info)
    code, out, _ = headwater("reload", "--index", "default")
    assert (code, server.asked[0].path) == (0, "/v1/indexes/default/reload")
    assert "gpt2@607a30d7" in out


def test_an_answer_without_documents_says_so(server, headwater, attribution):
    server.reply(attribution | {"data": [], "sources": []})
    code, out, _ = headwater(*QUESTION)
    assert code == 0
    assert out.startswith("The index gave no documents.\n")


def test_json_is_the_servers_answer(server, headwater, attribution):
    attribution["data"][0]["text"] = HOSTILE
    server.reply(attribution)
    code, out, _ = headwater(*QUESTION, "--json")
    printed = json.loads(out)
    assert code == 0
    assert printed["data"][0]["text"] == HOSTILE
    assert printed["sources"] == attribution["sources"]
    assert out.isascii()


@pytest.mark.parametrize("columns", ["1", "7", "20", "60", "400"])
def test_hostile_text_stays_text_at_any_width(server, headwater, attribution, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    attribution["data"][0] |= {"text": HOSTILE, "document_id": HOSTILE, "source": "[/]\x1b]0;title\x07"}
    attribution["sources"][0]["source"] = HOSTILE
    attribution["index"]["name"] = HOSTILE
    server.reply(attribution)
    code, out, _ = headwater(*QUESTION)
    assert code == 0
    assert not set(out) & set("\x1b\x9b\u202e\u200b\x00\x07\ue000\r")
    if columns == "400":
        assert "[bold]not bold[/] [/x] [31mred[0m 2J esrever :smile: next 名前" in out


def test_hostile_errors_stay_text(server, headwater, problem):
    server.reply(problem(400, HOSTILE), status=400)
    code, _, err = headwater(*QUESTION)
    assert code == 65
    assert "[bold]not bold[/]" in err
    assert not set(err) & set("\x1b\x9b\u202e\x00")


def test_a_terminal_without_unicode_is_no_reason_to_fail(server, attribution):
    attribution["data"][0]["text"] = HOSTILE
    server.reply(attribution)
    done = run_apart("--base-url", server.url, *QUESTION, PYTHONIOENCODING="ascii", COLUMNS="300")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\\u540d\\u524d" in done.stdout


def test_document_prints_facts_and_the_whole_text(server, headwater, document):
    document |= {"prompt": "Who?", "text": "[b]" + "word " * 100 + "\x1b[2J\nlast line"}
    server.reply(document)
    code, out, _ = headwater("document", "a/b?c", "--index", "plays")
    assert code == 0
    assert server.asked[0].path == "/v1/documents/a%2Fb%3Fc?index=plays"
    assert out.startswith("id: a/b?c\nsource: Hamlet\nyear: 1603\n\nWho?\n\n[b]word word")
    assert "word " * 100 + "[2J\nlast line\n" in out


def test_documents_prints_each(server, headwater, document):
    server.reply(document | {"id": "a"})
    server.reply(document | {"id": "b"})
    code, out, _ = headwater("documents", "a", "b", "--index", "plays")
    assert (code, [one.path for one in server.asked]) == (0, [f"/v1/documents/{id}?index=plays" for id in "ab"])
    assert out.startswith("id: a\n")
    assert "\n\nid: b\n" in out


def test_documents_are_one_list_in_json(server, headwater, document):
    server.reply(document)
    code, out, _ = headwater("documents", "a/b?c", "--json")
    assert (code, [one["id"] for one in json.loads(out)["data"]]) == (0, ["a/b?c"])


def test_documents_says_which_it_could_not_print(server, headwater, document):
    server.reply(document)
    server.reply({"error": {"message": "No such document.", "code": "document_not_found"}}, status=404)
    code, out, err = headwater("documents", "a/b?c", "nobody")
    assert (code, out) == (65, "")
    assert "No such document." in err


def test_attribution_prints_an_answer_of_before(server, headwater, attribution):
    server.reply(attribution)
    code, out, _ = headwater("attribution", "attr_1", "--json")
    assert (code, server.asked[0].path) == (0, "/v1/attributions/attr_1")
    assert json.loads(out)["data"][0]["document_id"] == attribution["data"][0]["document_id"]


def test_indexes_and_health(server, headwater, index_info, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    server.reply({"object": "list", "data": [index_info]})
    server.reply({"status": "ok"})
    _, out, _ = headwater("indexes")
    assert out.splitlines()[1].split() == [
        *("default", "3", "gpt2@607a30d7", "random", "8,", "ekfac", "0.1", "768", "2025-11-24", "sha256:1f")
    ]
    code, out, _ = headwater("health")
    assert (code, out) == (0, f"{server.url} ok\n")


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        (400, 65, "Nothing such."),
        (401, 77, "HEADWATER_API_KEY"),
        (403, 77, "--api-key"),
        (404, 65, "`headwater indexes`"),
        (413, 65, "Nothing such."),
        (422, 65, "Nothing such."),
        (429, 1, "asks for a pause of 300 s"),
        (418, 1, "Nothing such."),
        (503, 1, "ask again in a while"),
    ],
)
def test_the_exit_code_and_advice_for_each_status(server, headwater, problem, status, code, advice):
    server.reply(problem(status, "Nothing such."), status=status, retry_after="300")
    left, out, err = headwater(*QUESTION)
    assert (left, out) == (code, "")
    assert err.startswith(f"headwater: Nothing such. (HTTP {status})")
    assert advice in err


def test_no_server_says_how_to_start_one(headwater):
    code, out, err = headwater("health", url="http://127.0.0.1:1")
    assert (code, out) == (69, "")
    assert "Start a server with `headwater-serve my.index`" in err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["attribute", "--prompt", "p"], "exactly one of --response and --response-file"),
        (["attribute", "--prompt", "p", "--prompt-file", "f", "--response", "r"], "exactly one of --prompt and"),
        (["attribute", "--prompt-file", "-", "--response-file", "-"], "not both"),
        (["attribute", "--prompt-file", "no/such", "--response", "r"], "No such file"),
        (["attribute", "--prompt", "p", "--response", ""], "response: String should have at least"),
        ([*QUESTION, "--top-k", "0"], "--top-k"),
        ([*QUESTION, "--score", "best"], "--score"),
        ([*QUESTION, "--index", "../x"], "index: String should match"),
        (["document", ""], "empty name or id"),
        (["nonsense"], "nonsense"),
    ],
)
def test_usage_errors_leave_with_2_and_ask_nobody(server, headwater, arguments, complaint, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    code, out, err = headwater(*arguments)
    assert (code, out) == (2, "")
    assert complaint in err
    assert server.asked == []


def test_a_bad_address_is_a_usage_error(headwater):
    code, _, err = headwater("health", url="[/x]")
    assert code == 2
    assert "not an http or https address" in err


def test_prompt_and_response_come_from_a_file_and_stdin_to_the_byte(server, attribution, tmp_path):
    server.reply(attribution)
    (tmp_path / "prompt.txt").write_bytes("Où?\r\n".encode())
    files = ["--prompt-file", str(tmp_path / "prompt.txt"), "--response-file", "-"]
    done = run_apart("attribute", *files, "--json", stdin=" là\n".encode(), HEADWATER_BASE_URL=server.url)
    assert done.returncode == 0
    assert (server.asked[0].json["prompt"], server.asked[0].json["response"]) == ("Où?\r\n", " là\n")
    assert json.loads(done.stdout)["id"] == "attr_1"


def test_a_file_that_is_not_utf8_is_bad_data(server, headwater, tmp_path):
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    code, _, err = headwater("attribute", "--prompt", "p", "--response-file", str(tmp_path / "latin"))
    assert code == 65
    assert "latin is not UTF-8" in err
    assert "at byte 3" in err


def test_a_key_over_plain_http_is_warned_of_in_one_line(headwater, capsys):
    code, _, err = headwater("--api-key", "hush", "document", "", url="http://far.invalid")
    assert code == 2
    assert err.splitlines()[0].startswith("headwater: warning: the key travels to far.invalid over plain http")
    assert "hush" not in err


def test_version():
    done = run_apart("--version")
    assert (done.returncode, done.stdout.decode().strip()) == (0, __version__)
