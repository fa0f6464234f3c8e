"""The description of the API is whole: every status that a route gives is in it, with an example of the right form."""

import json
import os
from pathlib import Path

import pytest

from headwater.types import Problem


@pytest.fixture
def api(twin, live):
    return live(twin()).client.get("/openapi.json").json()


SNAPSHOT = Path(__file__).with_name("openapi.json")


def test_the_description_is_the_one_that_was_reviewed(api):
    """Write it anew with HEADWATER_WRITE_OPENAPI=1 in the environment, and look at what has changed."""
    api["info"]["version"] = "0.1.0"  # it comes from the last tag, and is no part of the interface
    text = json.dumps(api, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if os.environ.get("HEADWATER_WRITE_OPENAPI"):
        SNAPSHOT.write_text(text, "utf-8")
    assert text == SNAPSHOT.read_text("utf-8"), "the API has changed: is it meant, and can old clients live with it?"


def test_every_operation_has_a_name_a_summary_and_its_errors(api):
    operations = [operation for methods in api["paths"].values() for operation in methods.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names)) == 14
    for operation in operations:
        assert operation["summary"]
        assert {"200", "401", "500"} <= operation["responses"].keys()


def test_attribute_declares_what_it_can_answer(api):
    for path in ("/attribute", "/v1/attribute"):
        declared = set(api["paths"][path]["post"]["responses"])
        assert declared == {
            "200",
            "400",
            "401",
            "403",
            "404",
            "408",
            "413",
            "415",
            "421",
            "422",
            "429",
            "500",
            "503",
            "504",
        }


def test_every_example_of_an_error_is_a_problem_of_its_status(api):
    for methods in api["paths"].values():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if status != "200":
                    example = response["content"]["application/problem+json"]["example"]
                    assert Problem.model_validate(example).status == int(status)


def test_every_reference_leads_somewhere(api):
    def references(node):
        if isinstance(node, dict):
            yield from ([node["$ref"]] if "$ref" in node else [])
            node = list(node.values())
        if isinstance(node, list):
            for part in node:
                yield from references(part)

    schemas = api["components"]["schemas"]
    assert {reference.removeprefix("#/components/schemas/") for reference in references(api)} <= schemas.keys()
    assert "HTTPValidationError" not in schemas
