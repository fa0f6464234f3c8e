"""Files that are damaged on purpose, opened in children: a crash or a hang is told from a clean error."""

import contextlib
import os
import random
import resource
import select
import signal
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from headwater_indexer.errors import IndexDamaged

HANGS = 20.0  # seconds that a file may take
MEMORY = 4 << 30  # bytes that a child may map beyond what it has
EXTREMES = (0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
OUTCOMES = {b"r": "read", b"c": "refused cleanly", b"o": "another error", b"x": "crash", b"h": "hang"}


def mutated(whole: bytes, draw: random.Random) -> bytes:
    """The file with one to four injuries, mostly where its structure stands: at its beginning and its end."""
    data = bytearray(whole)
    for _ in range(draw.randint(1, 4)):
        if not data:
            break
        draw.choice((_flip, _flip, _number, _number, _cut, _insert, _zero))(data, draw)
    return bytes(data)


def _place(data: bytearray, draw: random.Random) -> int:
    last = len(data) - 1
    near = min(last, int(draw.expovariate(1 / 400)))
    return draw.choice((near, near, near, last - near, draw.randint(0, last)))


def _flip(data: bytearray, draw: random.Random) -> None:
    data[_place(data, draw)] ^= 1 << draw.randrange(8)


def _number(data: bytearray, draw: random.Random) -> None:
    """An extreme number in place of what stands there."""
    place, kind = _place(data, draw), draw.choice("BHIQ")
    written = struct.pack(f"<{kind}", draw.choice(EXTREMES) & ((1 << 8 * struct.calcsize(kind)) - 1))
    data[place : place + len(written)] = written


def _cut(data: bytearray, draw: random.Random) -> None:
    del data[_place(data, draw) :]


def _insert(data: bytearray, draw: random.Random) -> None:
    place = _place(data, draw)
    data[place:place] = draw.randbytes(draw.randint(1, 16))


def _zero(data: bytearray, draw: random.Random) -> None:
    place = _place(data, draw)
    data[place : place + 16] = bytes(len(data[place : place + 16]))


@dataclass(frozen=True)
class Door:
    """A kind of file, and what opens it and reads all of it."""

    path: Path
    open: Callable[[], object]
    also: str = ""  # another name that an error may have: of what the file speaks of


def open_mutated(door: Door, count: int, seed: int) -> Counter[str]:
    """What became of so many mutations of the file, each opened in a child; the file is whole again afterwards."""
    whole, found, done = door.path.read_bytes(), Counter[str](), 0
    try:
        while done < count:
            for outcome in _outcomes(door, whole, range(done, count), seed):
                found[outcome] += 1
                done += 1
    finally:
        door.path.write_bytes(whole)
    return found


def _outcomes(door: Door, whole: bytes, numbers: range, seed: int) -> list[str]:
    """Of the mutations of these numbers, up to the first that ends the child."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _open_all(door, whole, numbers, seed, writing)
    os.close(writing)
    found: list[str] = []
    try:
        while len(found) < len(numbers):
            ready, _, _ = select.select([reading], [], [], HANGS)
            said = os.read(reading, 4096) if ready else b"h"
            found += [OUTCOMES[bytes([byte])] for byte in (said or b"x")]
            if not ready or not said:
                break
    finally:
        os.close(reading)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return found


def _open_all(door: Door, whole: bytes, numbers: range, seed: int, writing: int) -> None:
    """In the child: a letter for each file."""
    resource.setrlimit(resource.RLIMIT_AS, (_mapped() + MEMORY, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in numbers:
        door.path.write_bytes(mutated(whole, random.Random(f"{seed} {number}")))  # noqa: S311  injuries, no secrets
        try:
            door.open()
            outcome = b"r"
        except IndexDamaged as error:
            named = door.path.name in str(error) or (door.also and door.also in str(error))
            outcome = b"c" if named else b"o"
        except BaseException as error:  # noqa: BLE001  it is what is counted
            os.write(2, f"{door.path.name} {number}: {type(error).__name__}: {str(error)[:200]}\n".encode())
            outcome = b"o"
        os.write(writing, outcome)
    os._exit(0)


def _mapped() -> int:
    """Bytes of this process's address space."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
