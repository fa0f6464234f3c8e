"""docs/security.md promises nothing that no test holds; those that have no better place are here."""

import ast
import json
import re

import pytest
from doc_blocks import ROOT
from transformers import GPT2Config

from headwater_indexer.checkpoint import load_checkpoint
from headwater_indexer.errors import IndexDamaged, ModelError
from headwater_indexer.manifest import File, verify_file

PAGE = (ROOT / "docs" / "security.md").read_text("utf-8")
SOURCES = [file for name in ("client", "indexer", "server") for file in sorted((ROOT / name).rglob("*.py"))]


def test_every_test_that_is_named_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 20
    for file, name in named:
        assert re.search(rf"^def {name}\(", (ROOT / file).read_text(), flags=re.MULTILINE), f"{file}::{name}"


def test_every_rule_names_a_test():
    table = PAGE.split("## Rules")[1].split("\n\n")[1].splitlines()[2:]
    assert len(table) > 15
    assert all("`tests/" in line for line in table)


def test_nothing_unpickles():
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                assert not names & {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}, file
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                options = {option.arg: ast.unparse(option.value) for option in node.keywords}
                assert called not in ("torch.load", "torch.save", "np.fromfile", "eval", "exec"), f"{file}: {called}"
                if called in ("np.load", "np.save", "numpy.load"):
                    assert options.get("allow_pickle") == "False", file
                assert options.get("trust_remote_code", "False") == "False", file


def test_code_of_a_checkpoint_is_not_run(tmp_path):
    config = GPT2Config(n_embd=8, n_layer=1, n_head=1).to_dict()
    config |= {"model_type": "my-own", "auto_map": {"AutoConfig": "mine.Mine", "AutoModelForCausalLM": "mine.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'has-run')!r}, 'w')\nclass Mine: ...\nclass Model: ...\n")
    with pytest.raises(ModelError, match="never runs code that comes with a checkpoint"):
        load_checkpoint(str(tmp_path), device="cpu")
    assert not (tmp_path / "has-run").exists()


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "rows/../../outside"])
def test_a_manifest_leads_nowhere_else(tmp_path, path):
    (tmp_path / "outside").write_text("")
    (tmp_path / "index" / "rows").mkdir(parents=True)
    with pytest.raises(IndexDamaged, match="names a file outside its folder"):
        verify_file(tmp_path / "index", File(path=path, bytes=0, sha256="0" * 64))


@pytest.mark.parametrize(
    "body",
    [
        '{"prompt": "SECRET", "response": 1}',
        '{"prompt": "a", "response": "b", "more": "SECRET"}',
        '{"prompt": "a", "response": "b", "index": "../SECRET"}',
        '{"prompt": "a", "response": "b", "filters": {"must": [{"key": "SECRET"}]}}',
        '{"prompt": "SECRET"',
        '{"prompt": "a", "response": "b", "top_k": "SECRET"}',
    ],
)
def test_errors_repeat_no_value_that_was_sent(address, body):
    import httpx2

    kind = {"Content-Type": "application/json"}
    answer = httpx2.post(f"http://{address}/v1/attribute", content=body, headers=kind, trust_env=False)
    assert answer.status_code in (400, 404, 422)
    assert "SECRET" not in answer.text
