"""Text files line by line, as UTF-8; what cannot be decoded is named by line and byte."""

from collections.abc import Iterator
from pathlib import Path

from headwater_indexer.errors import CorpusError
from headwater_indexer.formats.compressed import open_bytes, reading

LONGEST = 64 * 2**20  # bytes of one line, field or text file: more is a file of another kind, and would fill the memory
_BOM = b"\xef\xbb\xbf"


def read_lines(path: Path) -> Iterator[str]:
    """The lines with their ends; a byte order mark at the file's start is left out. One line is held at a time."""
    number, offset = 0, 0
    with reading(path), open_bytes(path) as file:
        while line := file.readline(LONGEST + 1):
            number += 1
            if len(line) > LONGEST:
                raise CorpusError(
                    f"{path}:{number}: the line is longer than {LONGEST // 2**20} MiB. Split the document."
                )
            yield decoded(line, f"{path}:{number}", offset)
            offset += len(line)


def decoded(data: bytes, place: str, offset: int = 0) -> str:
    """`data`, which starts at byte `offset` of its file, as text. Raises CorpusError where it is not UTF-8."""
    skipped = len(_BOM) if offset == 0 and data.startswith(_BOM) else 0
    try:
        return data[skipped:].decode("utf-8")
    except UnicodeDecodeError as error:
        at = skipped + error.start
        looks = "looks like UTF-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "is not UTF-8"
        raise CorpusError(
            f"{place}: byte {offset + at} of the file (0x{data[at]:02x}) {looks}. "
            "Convert the file, for example with `iconv -f LATIN1 -t UTF-8`."
        ) from error
