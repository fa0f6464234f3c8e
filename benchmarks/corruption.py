"""An index that is damaged: is all of it refused, by name?

    python benchmarks/corruption.py [--quick] [--files N] [--seed N]

First folders, of rows as they are and in codes, with a segment that was added and documents that were removed: a bit
flipped in each file, each file cut, emptied and taken away, hundreds of bits of the manifest, two shards, two segments'
files and two manifests in each other's place. `verify` must refuse each and name the file. Then, as if whoever changed
a file had forged the manifest too, mutated FAISS, HDF5, safetensors and SQLite files are given to what reads them, in
child processes: it must end with a clean error or, where the injury hit numbers or texts alone, read them; no crash, no
hang, no other exception. Prints one JSON object; the exit code is 0 only when nothing falls short.
"""

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from crashes import KINDS, captures_noted, write_material
from damage import Door, open_mutated
from measuring import conclude, described

from headwater_indexer.append import append_documents
from headwater_indexer.baselines.bm25 import FullText
from headwater_indexer.build import build_index
from headwater_indexer.checkpoint import quiet_loading
from headwater_indexer.codes.coder import Coder
from headwater_indexer.documents import DocumentStore
from headwater_indexer.errors import IndexDamaged
from headwater_indexer.hessian import Whitener
from headwater_indexer.index import verify_index
from headwater_indexer.numbering import load_removed
from headwater_indexer.projection import Projections
from headwater_indexer.remove import Unwanted, remove_documents
from headwater_indexer.search import FlatSearch
from headwater_indexer.store.shards import ShardStore
from headwater_indexer.versions import history
from headwater_indexer.workspace import Workspace

MANIFEST_BITS = 400
HARMLESS = ("read", "refused cleanly")


def write_indexes(folder: Path) -> dict[str, Path]:
    """One of each kind of rows, with every kind of file."""
    write_material(folder)
    found = {}
    with captures_noted(folder / "captures"):  # in small shards
        for kind, options in KINDS.items():
            out = found[kind] = folder / kind
            build_index(str(folder / "model"), str(folder / "corpus.jsonl"), out, options, device="cpu")
            append_documents(out, [str(folder / "more.jsonl")], device="cpu")
            remove_documents(out, Unwanted(ids=["more-3", "corpus-5"]))
    return found


def refused(folder: Path, name: str) -> str | None:
    """None where the folder is refused with this name; or what is wrong."""
    try:
        verify_index(folder)
        history(folder)
    except IndexDamaged as error:
        return None if name in str(error) else f"refused without its name: {error}"
    except BaseException as error:  # noqa: BLE001  it is what is looked for
        return f"{type(error).__name__}: {error}"
    return "taken for whole"


def injuries(folder: Path, draw: random.Random) -> Iterator[tuple[str, str, Callable[[], object]]]:
    """What is done, the file that must be named, and the doing, for every file of a whole folder."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        yield f"a bit of {name}", path.name, partial(_flip, path, draw)
        yield (
            f"{name} cut",
            path.name,
            partial(_halve, path),
        )
        yield f"{name} emptied", path.name, partial(path.write_bytes, b"")
        if path.parent.name != "versions":  # one that is not there is not kept
            yield f"{name} missing", path.name, path.unlink
    for number in range(MANIFEST_BITS):
        yield f"bit {number} of the manifest", "manifest.json", lambda: _flip(folder / "manifest.json", draw)
    first, second, *_ = sorted((folder / "rows").glob("*.h5"))
    yield "two shards swapped", first.name, lambda: _swap(first, second)
    segment = next((folder / "segments").iterdir())
    for name in ("documents.sqlite", "words.sqlite"):
        yield f"{name} of two segments swapped", name, partial(_swap, folder / name, segment / name)
    older = folder / "versions" / "0001.json"
    yield "a version in place of another", "0002.json", lambda: shutil.copy(older, older.with_name("0002.json"))


def _flip(path: Path, draw: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def _halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _swap(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def damage_folders(indexes: dict[str, Path], work: Path, draw: random.Random) -> dict[str, Any]:
    """How many damaged folders there were, and those that were not refused by name."""
    tried, wrong = 0, []
    for kind, whole in indexes.items():
        copy = shutil.copytree(whole, work / "copy")
        for what, name, injure in injuries(copy, draw):
            injure()
            tried += 1
            if (fault := refused(copy, name)) is not None:
                wrong.append(f"{kind}: {what}: {fault}")
            shutil.rmtree(copy)
            shutil.copytree(whole, copy)
        other = next(index for name, index in indexes.items() if name != kind)
        shutil.copy(other / "manifest.json", copy)
        tried += 1
        if (fault := refused(copy, str(copy))) is not None:
            wrong.append(f"{kind}: a manifest of another index: {fault}")
        shutil.rmtree(copy)
    return {"folders": tried, "not_refused_by_name": wrong}


def doors(indexes: dict[str, Path]) -> dict[str, Door]:
    """Each kind of file, and its reader."""
    exact, codes = (Workspace(indexes[kind]) for kind in ("exact", "codes"))
    rows, records = ShardStore.open(exact.rows), ShardStore.open(codes.rows)
    layout = Projections.load(exact.projections).layout
    removed = next((exact.folder / "removed").iterdir())
    return {
        "FAISS": Door(exact.search, lambda: FlatSearch.open(exact.search, exact.norms)),
        "HDF5, rows": Door(exact.rows / "rows-00000.h5", lambda: rows.read(rows.manifest.shards[0])),
        "HDF5, codes": Door(codes.rows / "rows-00000.h5", lambda: records.read(records.manifest.shards[0])),
        "manifest of rows": Door(
            exact.rows / "rows-manifest.json", lambda: list(ShardStore.open(exact.rows)), also=f"{exact.rows}/"
        ),
        "norms": Door(exact.norms, lambda: FlatSearch.open(exact.search, exact.norms)),
        "projections": Door(exact.projections, lambda: Projections.load(exact.projections)),
        "whitener": Door(exact.whitener, lambda: Whitener.load(exact.whitener, layout)),
        "codes": Door(codes.coder, lambda: Coder.load(codes.coder)),
        "removed": Door(removed, lambda: load_removed(removed, (48, 24))),
        "documents": Door(exact.documents, lambda: _read_all(exact.documents)),
        "words": Door(exact.full_text, lambda: FullText.open(exact.full_text).scores("import the class def")),
    }


def _read_all(path: Path) -> None:
    with DocumentStore(path) as store:
        for _ in store:
            pass


def main(
    quick: Annotated[bool, typer.Option("--quick", help="100 mutations of each kind of file.")] = False,
    files: Annotated[int | None, typer.Option(help="Mutations of FAISS's and HDF5's files each. [5000]")] = None,
    seed: Annotated[int, typer.Option(help="Of the injuries.")] = 0,
) -> None:
    """Damage an index, and say what was not noticed."""
    torch.set_num_threads(1)
    quiet_loading()
    count = files or (100 if quick else 5_000)
    with tempfile.TemporaryDirectory() as name:
        indexes = write_indexes(Path(name))
        folders = damage_folders(indexes, Path(name), random.Random(seed))  # noqa: S311  injuries, no secrets
        shares = {kind: count if "FAISS" in kind or "HDF5" in kind else -(-count // 5) for kind in doors(indexes)}
        mutated = {kind: open_mutated(door, shares[kind], seed) for kind, door in doors(indexes).items()}
    falls_short = list(folders["not_refused_by_name"])
    for kind, found in mutated.items():
        falls_short += [f"{kind}: {found[outcome]} x {outcome}" for outcome in found if outcome not in HARMLESS]
    report = {
        **described(torch.device("cpu")),
        "seed": seed,
        "folders": folders,
        "mutated_files": {kind: dict(found) for kind, found in mutated.items()},
        "falls_short": falls_short,
    }
    conclude(report)


if __name__ == "__main__":
    typer.run(main)
