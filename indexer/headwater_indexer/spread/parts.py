"""Which shards of which segments each of some searchers holds: successive ones, about as many rows for each."""

from collections.abc import Sequence
from dataclasses import dataclass

from headwater_indexer.manifest import Manifest
from headwater_indexer.store.shards import ShardManifest


@dataclass(frozen=True, kw_only=True)
class Part:
    """Successive shards of one segment. Parts in their order hold all documents in theirs."""

    searcher: int
    segment: str  # its folder
    shards: range
    rows: int

    def files(self, manifest: Manifest, folders: Sequence[str]) -> list[str]:
        """The paths, in the index's folder, of what must be there to search the part, of these folders of shards."""
        prefix = "" if self.segment == "." else f"{self.segment}/"
        wanted = {f"{prefix}{folder}/rows-{number:05d}.h5" for folder in folders for number in self.shards}
        wanted |= {f"{prefix}{folder}/rows-manifest.json" for folder in folders}
        shared = {file.path for file in manifest.shared}
        return [file.path for file in manifest.files if file.path in wanted | shared]


def cut(segments: Sequence[tuple[str, ShardManifest]], searchers: int) -> list[Part]:
    """A searcher may hold parts of several segments; fewer are used where there are fewer shards."""
    total = sum(shards.rows for _, shards in segments)
    parts: list[Part] = []
    done = 0
    for folder, shards in segments:
        for number, shard in enumerate(shards.shards):
            searcher = min(searchers - 1, int((done + shard.rows / 2) * searchers / max(1, total)))
            done += shard.rows
            last = parts[-1] if parts else None
            if last is not None and (last.segment, last.searcher) == (folder, searcher):
                parts[-1] = _longer(last, shard.rows)
            else:
                parts.append(Part(searcher=searcher, segment=folder, shards=range(number, number + 1), rows=shard.rows))
    return parts


def _longer(part: Part, rows: int) -> Part:
    shards = range(part.shards.start, part.shards.stop + 1)
    return Part(searcher=part.searcher, segment=part.segment, shards=shards, rows=part.rows + rows)
