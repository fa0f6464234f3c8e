"""Text into windows: every token counts once, responses alone where there is a prompt."""

import pytest
from transformers import PreTrainedTokenizerFast

from headwater_indexer.corpus import Document
from headwater_indexer.errors import ConfigurationError, PairError
from headwater_indexer.windows import Encoder

TEXT = " ".join(f"the river {number} feeds the lake" for number in range(30))


def document(text: str, prompt: str | None = None) -> Document:
    return Document(id="d", text=text, source=None, metadata={}, prompt=prompt)


def test_a_long_document_is_predicted_once_token_by_token(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = tokenizer(TEXT)["input_ids"]
    windows = Encoder(tokenizer, 32).document(document(TEXT))
    predicted = [int(token) for window in windows for token in window.input_ids[window.first_target :]]
    assert predicted == ids[1:]
    assert max(len(window.input_ids) for window in windows) == 32


def test_truncation_keeps_the_first_window(tokenizer: PreTrainedTokenizerFast) -> None:
    encoder = Encoder(tokenizer, 32)
    (window,) = encoder.document(document(TEXT), long="truncate")
    assert window.input_ids.tolist() == encoder.document(document(TEXT))[0].input_ids.tolist()


@pytest.mark.parametrize("prompt", ["", "Where does it go?", TEXT])
def test_a_record_counts_its_response_alone(tokenizer: PreTrainedTokenizerFast, prompt: str) -> None:
    response = " to the sea, past the mill"
    windows = Encoder(tokenizer, 32).document(document(response, prompt))
    counted = [int(token) for window in windows for token in window.input_ids[window.first_target :]]
    expected = tokenizer(response)["input_ids"]
    assert counted == (expected if prompt else expected[1:])


def test_one_token_has_nothing_to_predict(tokenizer: PreTrainedTokenizerFast) -> None:
    assert Encoder(tokenizer, 32).document(document("a")) == []


def test_a_pair_in_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    pair = Encoder(tokenizer, 64).pair("the river", " feeds the lake")
    assert pair.window.first_target == pair.prompt_tokens
    assert tokenizer.decode(pair.input_ids[pair.prompt_tokens :]) == " feeds the lake"
    assert pair.prompt_tokens + pair.response_tokens == len(pair.input_ids)


@pytest.mark.parametrize(
    ("prompt", "response", "code", "message"),
    [
        ("the river", "", "empty_response", "the response is empty"),
        ("", "a", "empty_response", "no token that is predicted"),
        (TEXT, TEXT, "too_long", r"have \d+ tokens \(\d+ \+ \d+\), and this index takes at most 32"),
    ],
)
def test_pairs_that_cannot_be_asked(
    tokenizer: PreTrainedTokenizerFast, prompt: str, response: str, code: str, message: str
) -> None:
    with pytest.raises(PairError, match=message) as raised:
        Encoder(tokenizer, 32).pair(prompt, response)
    assert raised.value.code == code


def test_messages_need_a_chat_template(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(PairError, match="no chat template: send `prompt`"):
        Encoder(tokenizer, 32).messages([{"role": "user", "content": "hi"}], "hello there")


@pytest.mark.parametrize("prompt", ["the river", TEXT])
def test_truncated_pairs_keep_some_response(tokenizer: PreTrainedTokenizerFast, prompt: str) -> None:
    pair = Encoder(tokenizer, 32).truncated_pair(prompt, TEXT)
    assert len(pair.input_ids) == 32
    assert pair.response_tokens >= 16


def test_a_window_needs_some_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ConfigurationError, match="--max-length 4"):
        Encoder(tokenizer, 4)


def test_a_span_counts_the_tokens_that_it_overlaps(tokenizer: PreTrainedTokenizerFast) -> None:
    response = " the river 7 feeds Zürich 🌊 and the lake"
    whole = tokenizer(response, return_offsets_mapping=True)
    for start in range(len(response)):
        for stop in (start + 1, min(start + 6, len(response)), len(response)):
            pair = Encoder(tokenizer, 64).pair("past the mill,", response, span=(start, stop))
            expected = [first < stop and start < last for first, last in whole["offset_mapping"]]
            assert pair.window.is_target.tolist() == [False] * pair.prompt_tokens + expected
            assert list(pair.input_ids[pair.prompt_tokens :]) == whole["input_ids"]
            assert pair.counted_tokens == sum(expected) > 0


def test_a_span_of_the_one_token_that_nothing_predicts_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    encoder = Encoder(tokenizer, 64)
    with pytest.raises(PairError, match="holds no token that is predicted from another") as refused:
        encoder.pair("", "river lake", span=(0, 1))
    assert (refused.value.param, refused.value.code) == ("span", "empty_span")
    assert encoder.pair("", "river lake").counted_tokens == len(tokenizer("river lake")["input_ids"]) - 1
