"""JSON Lines: one object a line. Stricter than Python's json: NaN, Infinity and 1e999 are not JSON numbers."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

from headwater_indexer.errors import CorpusError
from headwater_indexer.formats.lines import read_lines
from headwater_indexer.formats.record import Record


def read_jsonl(path: Path, stem: str) -> Iterator[Record]:
    """A record for each line that is not blank; lines count from 1."""
    for number, line in enumerate(read_lines(path), start=1):
        if line.strip():
            place = f"{path}:{number}"
            yield Record(place=place, given_id=f"{stem}:{number}", values=_object(line, place))


def _object(line: str, place: str) -> dict[str, object]:
    try:
        value = _DECODER.decode(line.rstrip("\r\n"))  # so that columns are counted on this line
    except json.JSONDecodeError as error:
        raise CorpusError(
            f"{place}: not valid JSON at column {error.colno} ({error.msg}). Each line must hold one whole JSON object."
        ) from error
    except RecursionError as error:
        raise CorpusError(f"{place}: the JSON is nested too deeply to be read.") from error
    except ValueError as error:  # from the two functions below, and integers of more than 4300 digits
        raise CorpusError(f"{place}: not valid JSON ({error}). Write null or a number that fits.") from error
    if not isinstance(value, dict):
        raise CorpusError(
            f"{place}: the line holds {_KINDS[type(value)]}, not an object. "
            'Each line must look like {"id": "...", "text": "..."}.'
        )
    return value


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits} is too large for a number")
    return number


def _refused(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_refused)
_KINDS = {
    list: "an array",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}
