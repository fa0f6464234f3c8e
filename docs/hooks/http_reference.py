"""reference/http.md, made of the description of the API that tests/server/openapi.json keeps under review."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

DESCRIPTION = Path(__file__).parents[2] / "tests" / "server" / "openapi.json"
INTRODUCTION = """# The HTTP interface

A running server tells the same at `/openapi.json`, and for people at `/docs`. Bodies are JSON; unknown fields of a
question are refused, and a client should ignore unknown fields of an answer. Every answer has an `X-Request-ID`.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """MkDocs calls this once it knows the files of the site."""
    api = json.loads(DESCRIPTION.read_text("utf-8"))
    files.append(File.generated(config, "reference/http.md", content=render(api)))
    return files


def render(api: Mapping[str, Any]) -> str:
    """The description as Markdown: calls first, then what travels in them."""
    return "\n".join([INTRODUCTION, *_calls(api["paths"]), *_schemas(api["components"]["schemas"])]) + "\n"


def _calls(paths: Mapping[str, Any]) -> Iterator[str]:
    yield "## Calls\n"
    for path, methods in paths.items():
        for method, operation in methods.items():
            yield from _call(path, method, operation)


def _call(path: str, method: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"### `{method.upper()} {path}`\n"
    yield _told(operation) + "\n"
    if parameters := operation.get("parameters"):
        yield "| parameter | in | type | |\n|---|---|---|---|"
        for parameter in parameters:
            kind, told = _type(parameter.get("schema", {})), _line(parameter.get("description"))
            yield f"| `{parameter['name']}` | {parameter['in']} | {kind} | {told} |"
        yield ""
    if body := operation.get("requestBody"):
        yield f"Takes {_content(body['content'])}.\n"
    good = {status: answer for status, answer in operation["responses"].items() if status < "400"}
    bad = [status for status in operation["responses"] if status >= "400"]
    for status, answer in good.items():
        yield f"Answers {status} with {_content(answer.get('content', {}))}.\n"
    yield f"Errors ([Problem](#problem)): {', '.join(bad)}.\n"


def _told(operation: Mapping[str, Any]) -> str:
    """Summary and description; a summary that is only the function's name says nothing."""
    named = operation["summary"].lower().replace(" ", "_") == operation["operationId"]
    summary = "" if named else operation["summary"].rstrip(".") + ". "
    return f"{summary}{operation.get('description', '')}"


def _content(content: Mapping[str, Any]) -> str:
    kinds = [f"{_type(media.get('schema', {}))} as `{name}`" for name, media in content.items()]
    return " or ".join(kinds) or "an empty body"


def _schemas(schemas: Mapping[str, Any]) -> Iterator[str]:
    yield "## What travels\n"
    for name, schema in schemas.items():
        yield f"### {name}\n"
        if told := schema.get("description"):
            yield f"{told}\n"
        if fields := schema.get("properties"):
            yield from _fields(fields, schema.get("required", []))


def _fields(fields: Mapping[str, Any], required: list[str]) -> Iterator[str]:
    yield "| field | type | default | |\n|---|---|---|---|"
    for name, field in fields.items():
        default = "required" if name in required else f"`{json.dumps(field.get('default'))}`"
        yield f"| `{name}` | {_type(field)} | {default} | {_line(field.get('description'))}{_limits(field)} |"
    yield ""


def _type(schema: Mapping[str, Any]) -> str:
    """A schema in a few words, named ones as links."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if choices := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
        return " or ".join(dict.fromkeys(map(_type, choices)))
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    kind = schema.get("type", "any JSON")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(kind)


def _limits(field: Mapping[str, Any]) -> str:
    words = {"minimum": "from", "maximum": "to", "minLength": "at least", "maxItems": "at most", "minItems": "at least"}
    found = [f"{word} {field[name]}" for name, word in words.items() if name in field]
    return f" ({', '.join(found)})" if found else ""


def _line(text: str | None) -> str:
    return (text or "").replace("\n", " ").replace("|", "\\|")
