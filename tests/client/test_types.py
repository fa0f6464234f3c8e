"""What the wire types accept and refuse, and that each field tells a reader of the OpenAPI page what it is."""

import json

import pytest
from pydantic import BaseModel, ValidationError

from headwater import types
from headwater.types import Answer, AttributeRequest, Attribution, Question

MODELS = [value for value in vars(types).values() if isinstance(value, type) and issubclass(value, BaseModel)]
OURS = [model for model in MODELS if model not in (BaseModel, Answer, Question)]


def test_a_question_has_defaults():
    asked = AttributeRequest(prompt="", response="x")
    assert (asked.top_k, asked.index, asked.score, asked.sign) == (10, "default", "relatif", "positive")
    assert asked.include == ["text", "metadata"]


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("topk", 3, "Extra inputs are not permitted"),
        ("top_k", "3", "valid integer"),
        ("top_k", True, "valid integer"),
        ("index", "a/b", "match pattern"),
        ("include", ["gradients"], "'text' or 'metadata'"),
        ("messages", [], "at least 1 item"),
        ("response", "\ud800", "unicode"),
    ],
)
def test_a_question_refuses_what_it_does_not_know(field, value, complaint):
    with pytest.raises(ValidationError, match=complaint):
        AttributeRequest.model_validate({"prompt": "p", "response": "r", field: value})


def test_an_error_does_not_repeat_the_text():
    with pytest.raises(ValidationError) as caught:
        AttributeRequest.model_validate({"prompt": "a private matter", "response": "r", "top_k": 0})
    assert "private" not in str(caught.value)


def test_an_answer_comes_back_as_it_went_out(attribution):
    answer = Attribution.model_validate(attribution, strict=True)
    again = Attribution.model_validate_json(answer.model_dump_json())
    assert again == answer
    assert json.loads(answer.model_dump_json(exclude_none=True))["data"][0] == attribution["data"][0]


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)
def test_every_type_and_field_is_described(model):
    assert model.__doc__
    for name, field in model.model_fields.items():
        nested = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        constant = name == "object"
        assert field.description or nested or constant, f"{model.__name__}.{name}"


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)
def test_questions_refuse_and_answers_ignore_what_is_new(model):
    assert issubclass(model, Question) != issubclass(model, Answer)
    assert model.model_config["extra"] == ("forbid" if issubclass(model, Question) else "ignore")
