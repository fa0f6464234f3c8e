"""Text files: each is one document, named by its path in the folder, its source the folder that it lies in."""

from pathlib import Path

from headwater_indexer.errors import CorpusError
from headwater_indexer.formats.compressed import open_bytes, reading
from headwater_indexer.formats.lines import LONGEST, decoded
from headwater_indexer.formats.record import Record


def read_text(path: Path, root: Path) -> Record:
    """The file as a record with id, text and source; the source of a file right under `root` is the root's name."""
    relative = path.relative_to(root)
    with reading(path), open_bytes(path) as file:
        data = file.read(LONGEST + 1)
    if len(data) > LONGEST:
        raise CorpusError(f"{path}: longer than {LONGEST // 2**20} MiB. Split the document into several files.")
    source = root.resolve().name if relative.parent == Path() else relative.parent.as_posix()
    return Record(
        place=str(path),
        given_id=relative.as_posix(),
        values={"id": relative.as_posix(), "text": decoded(data, str(path)), "source": source or None},
    )
