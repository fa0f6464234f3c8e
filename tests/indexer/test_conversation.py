"""Conversations: read from every format, turned into tokens by a chat template, counted where the assistant speaks."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pyarrow
import pytest
from pyarrow import parquet
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from headwater_indexer.capture import capturing
from headwater_indexer.conversation import Message
from headwater_indexer.corpus import Document, Fields, read_documents
from headwater_indexer.documents import DocumentStore, DocumentWriter
from headwater_indexer.errors import CorpusError
from headwater_indexer.layers import select_layers
from headwater_indexer.projection import make_projections
from headwater_indexer.windows import Encoder, Window

TURNS: tuple[Message, ...] = (
    {"role": "user", "content": "the river"},
    {"role": "assistant", "content": " feeds the lake\n"},
    {"role": "user", "content": "and the assistant"},
    {"role": "assistant", "content": "the river"},
)
RECORD = {"id": "chat", "messages": list(TURNS), "year": 1907}
CHAT = Document(
    id="chat",
    text="user: the river\n\nassistant:  feeds the lake\n\n\nuser: and the assistant\n\nassistant: the river",
    source=None,
    metadata={"year": 1907},
    messages=TURNS,
)
END = "<|endoftext|>"
# In the manner of the families: a mark before each turn; words trimmed, with no mark of a turn's end that is a token;
# words that a template repeats elsewhere; something put before the last answer alone; generation marked by itself.
TEMPLATES = {
    "marks": "{% for m in messages %}<{{ m.role }}>{{ m.content }}<|endoftext|>\n{% endfor %}",
    "trims": (
        "{% for m in messages %}{% if m.role == 'user' %}Q: {{ m.content | trim }}\n"
        "{% else %}A: {{ m.content | trim }}\n{% endif %}{% endfor %}"
    ),
    "thinks": (
        "{% for m in messages %}<{{ m.role }}>{% if loop.last %}<think></think>{% endif %}{{ m.content }}"
        "<|endoftext|>{% endfor %}"
    ),
    "generation": (
        "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
        "<|endoftext|>{% endgeneration %}{% else %}{{ m.content }}<|endoftext|>{% endif %}{% endfor %}"
    ),
}
SAID = {
    "marks": f" feeds the lake\n{END}the river{END}",
    "trims": " feeds the lake the river",
    "thinks": f" feeds the lake\n{END}the river{END}",
    "generation": f" feeds the lake\n{END}the river{END}",
}
MakeModel = Callable[..., PreTrainedModel]


def with_template(tokenizer: PreTrainedTokenizerFast, template: str) -> PreTrainedTokenizerFast:
    chatting = copy.deepcopy(tokenizer)
    chatting.chat_template = template
    return chatting


def counted(windows: list[Window]) -> list[int]:
    return [int(token) for window in windows for token in window.input_ids[window.is_target]]


def write(folder: Path, form: str) -> Path:
    path = folder / f"c.{form}"
    if form == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist([RECORD]), path)
    elif form == "saved":
        datasets.Dataset.from_list([RECORD]).save_to_disk(str(path))
    else:
        path.write_text(json.dumps(RECORD))
    return path


@pytest.mark.parametrize("form", ["jsonl", "parquet", "saved"])
def test_a_conversation_is_read_from_every_format_and_kept(tmp_path: Path, form: str) -> None:
    assert list(read_documents(str(write(tmp_path, form)))) == [CHAT]
    with DocumentWriter(tmp_path / "kept") as writer:
        writer.add(CHAT, windows=1, tokens=1)
        assert writer.matches(0, CHAT)
    with DocumentStore(tmp_path / "kept") as store:
        assert store.by_id("chat") == CHAT


def test_a_conversation_under_another_name_and_one_that_is_metadata(tmp_path: Path) -> None:
    record = {"id": "chat", "turns": list(TURNS), "text": "alone", "year": 1907}
    (tmp_path / "c.jsonl").write_text(json.dumps(record))
    (one,) = read_documents(str(tmp_path / "c.jsonl"), Fields(messages="turns"))
    assert (one.messages, one.metadata) == (TURNS, {"text": "alone", "year": 1907})
    (tmp_path / "d.jsonl").write_text(json.dumps(RECORD | {"text": "alone"}))
    (two,) = read_documents(str(tmp_path / "d.jsonl"), Fields(messages=""))
    assert (two.text, two.messages, two.metadata["messages"]) == ("alone", None, list(TURNS))


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("length", [100, 20])
def test_the_assistant_alone_is_counted_over_many_turns(
    tokenizer: PreTrainedTokenizerFast, name: str, length: int
) -> None:
    chatting = with_template(tokenizer, TEMPLATES[name])
    windows = Encoder(chatting, length).document(CHAT)
    assert chatting.decode(counted(windows)) == SAID[name]
    rendered = chatting.apply_chat_template(list(TURNS), tokenize=False)
    whole = chatting(rendered, add_special_tokens=False)["input_ids"]
    if length == 100:
        assert [window.input_ids.tolist() for window in windows] == [whole]
    assert all(len(window.input_ids) <= length for window in windows)


def test_rows_of_a_conversation_are_those_of_its_assistants_tokens(
    tokenizer: PreTrainedTokenizerFast, make_model: MakeModel
) -> None:
    model = make_model("llama")
    layers = select_layers(model, "mlp")
    (chat,) = Encoder(with_template(tokenizer, TEMPLATES["marks"]), 64).document(CHAT)
    places = np.nonzero(chat.is_target)[0]
    split = int(np.nonzero(np.diff(places) > 1)[0][0]) + 1  # where the second answer begins
    parts = []
    for own in (places[:split], places[split:]):
        ids = chat.input_ids[: own[-1] + 1]
        parts.append(Window(input_ids=ids, first_target=int(own[0])))
    with capturing(model, layers, make_projections("random", layers, rank=8, seed=1), batch_tokens=256) as capture:
        rows = capture([chat, *parts])
    assert float((rows[1] + rows[2] - rows[0]).norm() / rows[0].norm()) < 1e-5


def test_a_model_without_a_template_takes_prompts_and_refuses_conversations(tokenizer: PreTrainedTokenizerFast) -> None:
    encoder = Encoder(tokenizer, 64)
    with pytest.raises(CorpusError, match="document 'chat' has messages, and this model's tokenizer has no chat templ"):
        encoder.document(CHAT)
    pair = Document(id="pair", prompt="the river", text=" feeds the lake", source=None, metadata={})
    assert tokenizer.decode(counted(encoder.document(pair))) == " feeds the lake"


# Thoughts stand in the last answer alone, as Qwen 3 has them.
THINKING = (
    "{% for m in messages %}<{{ m.role }}>{% set words = m.content.split('</think>')[-1].lstrip('\\n') %}"
    "{% set thought = m.reasoning_content or m.content.split('</think>')[0].split('<think>')[-1].strip() %}"
    "{% if loop.last %}<think>\n{{ thought if thought != words else '' }}\n</think>\n\n{% endif %}"
    "{{ words }}<|endoftext|>{% endfor %}"
)


@pytest.mark.parametrize("apart", [False, True])
def test_thoughts_count_where_the_template_keeps_them(tokenizer: PreTrainedTokenizerFast, apart: bool) -> None:
    def turn(thought: str, words: str) -> Message:
        if apart:
            return {"role": "assistant", "content": words, "reasoning_content": thought}
        return {"role": "assistant", "content": f"<think>\n{thought}\n</think>\n\n{words}"}

    turns = (TURNS[0], turn("a lake", "to the lake"), TURNS[2], turn("the mill", "to the mill"))
    chatting = with_template(tokenizer, THINKING)
    windows = Encoder(chatting, 200).document(replace(CHAT, messages=turns))
    said = f"to the lake{END}<think>\nthe mill\n</think>\n\nto the mill{END}"
    assert chatting.decode(counted(windows)) == said
    plain = Encoder(chatting, 200).document(replace(CHAT, messages=(TURNS[0], {**TURNS[1], "content": "to the lake"})))
    assert chatting.decode(counted(plain)) == f"to the lake{END}"  # an empty thought is the template's own


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('no system here') }}", r"refuses its messages \(no system here\): check roles"),
        ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", "alters what the assistant says.*generation"),
        ("{{ messages[0].content }}", "alters what the assistant says"),
    ],
)
def test_templates_that_do_not_fit_are_told_with_the_document(
    tokenizer: PreTrainedTokenizerFast, template: str, message: str
) -> None:
    with pytest.raises(CorpusError, match=f"^document 'chat': the model's chat template {message}"):
        Encoder(with_template(tokenizer, template), 64).document(CHAT)
