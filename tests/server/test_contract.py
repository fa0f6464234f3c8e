"""Requests made from the API's own description, right and wrong ones: no 5xx, and only answers that are declared."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def description(real_live):
    return schemathesis.openapi.from_url(f"{real_live.client.base_url}/openapi.json")


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_every_answer_is_one_that_is_declared(description, mode):
    operations = [found.ok() for found in description.get_all_operations()]
    if mode is GenerationMode.NEGATIVE:  # of the rest nothing can be wrong
        operations = [one for one in operations if one.body or "{name}" in one.path]
        assert len(operations) >= 5
    hold(operations, mode)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_so_it_is_with_a_gateway(twin, live, upstream, mode):
    address = live(twin(), upstream=upstream).client.base_url
    found = schemathesis.openapi.from_url(f"{address}/openapi.json").get_all_operations()
    operations = [one.ok() for one in found if "gateway" in one.ok().definition.raw["tags"]]
    assert len(operations) == 3
    hold([one for one in operations if one.body or mode is GenerationMode.POSITIVE], mode)


def hold(operations, mode):
    """Whatever is sent, what comes is declared."""
    for operation in operations:

        @settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def holds(case):
            case.call_and_validate(checks=CHECKS)

        holds()
