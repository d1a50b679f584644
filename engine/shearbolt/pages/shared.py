"""The cache of pages where threads run at the same time.

    get: young {pgid: page} --found--> no lock: one lookup in one dict
                            --missed--> read and decoded --> lock: kept, counted,
                                        by as many threads         shrunk
                                        as want to

`Pager` is made for CPython's global lock: its steps without a call are one step to all
other threads. Here whatever changes more than one thing (the two generations, what is
spent, an index and its room) is done by one thread at a time. What only looks takes no
lock: pages never change, and a dict that stands for a generation no more is as good as
one that was looked into a moment before.

The lock lets in the thread that has it: a signal handler, or what the collector
finalizes, may read in the middle of a change. That it meets the cache in such a state
is nothing new; a `Pager` bears it from other threads.

What it is not: for bytes of the file. These are read and decoded outside of the lock;
two threads that miss the same page both read it, as they do there.

Source: PEP 703 on what a dict does by itself.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from shearbolt.pages.pager import DEFAULT_CACHE_SIZE, Pager
from shearbolt.storage.free_threading import is_free_threaded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from shearbolt.pages.format import Branch, Page
    from shearbolt.storage import Storage
    from shearbolt.storage.robust import RobustFile

__all__ = ["SharedPager", "pager_for"]

T = TypeVar("T")


def pager_for(
    storage: Storage, file: RobustFile, page_size: int, cache_size: int
) -> Pager:
    """The pages of a file for as many threads as this storage may have at once."""
    if is_free_threaded(storage):
        return SharedPager(storage, file, page_size, cache_size)
    return Pager(file, page_size, cache_size)


class _Together:
    """Work that one thread does at a time, or in the middle of itself."""

    __slots__ = ("_holder", "_mutex", "_thread_id")

    def __init__(self, storage: Storage) -> None:
        self._mutex: Final = storage.mutex()
        self._thread_id: Final = storage.thread_id
        self._holder: int | None = None

    def run(self, work: Callable[[], T]) -> T:
        """Do this while no other thread does any."""
        thread = self._thread_id()
        if self._holder == thread:
            return work()
        with self._mutex:
            # As in `Alone`: no call, so no interrupt and no handler in between.
            self._holder = thread
            try:
                result = work()
            finally:
                self._holder = None
        return result


class SharedPager(Pager):
    """A `Pager` for threads that run at the same time.

    Args:
        storage: Has the lock.
        file: As there.
        page_size: As there.
        cache_size: As there.
    """

    __slots__ = ("_together",)

    def __init__(
        self,
        storage: Storage,
        file: RobustFile,
        page_size: int,
        cache_size: int = DEFAULT_CACHE_SIZE,
    ) -> None:
        super().__init__(file, page_size, cache_size)
        self._together: Final = _Together(storage)

    def page(self, pgid: int, high_water_mark: int) -> Page:
        """As there."""
        page = self.young.get(pgid)
        if page is None:
            settled = self.settled
            page = self._together.run(partial(self._made_young, pgid, settled))
            if page is None:
                page = self._from_file(pgid, high_water_mark)
                self._put_in(page, settled)
        return page

    def _made_young(self, pgid: int, settled: object | None) -> Page | None:
        """A page of the cache, in the young generation from now on."""
        page = self.young.get(pgid)
        if page is None:
            page = self._old.pop(pgid, None)
            if page is not None:
                # As there: a handler may have committed, in the middle of this.
                if settled is not None and settled is self.settled:
                    self.young[pgid] = page
                else:
                    self.spent -= page.cost
        return page

    def keep(self, page: Page) -> None:
        """As there."""
        self._together.run(partial(super().keep, page))

    def _take(self, leaves: Sequence[Page], settled: object | None) -> None:
        self._together.run(partial(super()._take, leaves, settled))

    def _put_in(self, page: Page, settled: object | None) -> None:
        # A commit that begins now waits to keep its own: it replaces this one.
        self._together.run(partial(super()._put_in, page, settled))

    def forget_all(self, pgids: Iterable[int]) -> None:
        """As there."""
        self._together.run(partial(super().forget_all, pgids))

    def clear(self) -> None:
        """As there."""
        self._together.run(super().clear)

    def note(self, root: Branch, leaf: Page) -> None:
        """As there."""
        self._together.run(partial(super().note, root, leaf))

    def drop_indexes(self, freed: Callable[[int], bool] | None = None) -> None:
        """As there."""
        self._together.run(partial(super().drop_indexes, freed))
