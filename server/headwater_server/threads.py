"""Threads beside the event loop: reading documents, passing over all of them for a filter, searching."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """One pool for each kind of work, so that slow ones do not hold up quick ones."""

    def __init__(self) -> None:
        cores = os.cpu_count() or 1
        self._reading = ThreadPoolExecutor(max_workers=max(4, cores), thread_name_prefix="headwater-read")
        self._filtering = ThreadPoolExecutor(max_workers=2, thread_name_prefix="headwater-filter")
        self._searching = ThreadPoolExecutor(max_workers=max(2, cores), thread_name_prefix="headwater-search")

    async def read(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._in(self._reading, lambda: work(*args, **kwargs))

    async def filter(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._in(self._filtering, lambda: work(*args, **kwargs))

    async def search(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._in(self._searching, lambda: work(*args, **kwargs))

    def close(self) -> None:
        """Wait for what runs; what has not begun is given up."""
        for pool in (self._reading, self._filtering, self._searching):
            pool.shutdown(wait=True, cancel_futures=True)

    async def _in(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        """Cancelled, the thread is not waited for: a late answer must not hold up the refusal."""
        return await asyncio.get_running_loop().run_in_executor(pool, work)
