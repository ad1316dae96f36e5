"""What a living corpus consists of: posts as columns, and which of them should be found."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["Catalog"]

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
Slots = npt.NDArray[np.int64]
_SMALLEST = 1024


class Catalog:
    """Posts in the order of arrival; a slot is a post's place until :meth:`vacuum`.

    About 35 bytes a post and 8 per topic, so that the catalog of a corpus weighs little beside its vectors.
    """

    def __init__(self) -> None:
        self._count = 0
        self._post = np.zeros(_SMALLEST, np.uint64)
        self._author = np.zeros(_SMALLEST, np.uint64)
        self._created = np.zeros(_SMALLEST, np.int64)
        self._topics = np.zeros((_SMALLEST, 1), np.int64)
        self._kept = np.zeros(_SMALLEST, bool)
        self._indexed = np.zeros(_SMALLEST, bool)
        # Slots by post id: sorted ids of the slots before `_sorted`, a dictionary for the few behind.
        self._sorted = 0
        self._ids: U64 = np.zeros(0, np.uint64)
        self._order: Slots = np.zeros(0, np.int64)
        self._recent: dict[int, int] = {}

    def __len__(self) -> int:
        """Posts that are kept."""
        return int(self.kept.sum())

    @property
    def slots(self) -> int:
        """Slots in use, given up ones included."""
        return self._count

    @property
    def post_ids(self) -> U64:
        """[slots]"""
        return self._post[: self._count]

    @property
    def author_ids(self) -> U64:
        """[slots]"""
        return self._author[: self._count]

    @property
    def created_ms(self) -> I64:
        """[slots] Unix milliseconds"""
        return self._created[: self._count]

    @property
    def topic_ids(self) -> I64:
        """[slots, M], 0 for none"""
        return self._topics[: self._count]

    @property
    def kept(self) -> npt.NDArray[np.bool_]:
        """[slots] Neither deleted nor expired."""
        return self._kept[: self._count]

    @property
    def indexed(self) -> npt.NDArray[np.bool_]:
        """[slots] Where the search can find it now; the owner of the catalog writes this."""
        return self._indexed[: self._count]

    def add(self, post_ids: U64, author_ids: U64, created_ms: I64, topic_ids: I64) -> Slots:
        """Put posts behind the others, topics [n, M]; returns their slots. None of them may be kept already."""
        first, count = self._count, len(post_ids)
        self._reserve(first + count, topic_ids.shape[1])
        self._count = first + count
        self._post[first : self._count] = post_ids
        self._author[first : self._count] = author_ids
        self._created[first : self._count] = created_ms
        self._topics[first : self._count, : topic_ids.shape[1]] = topic_ids
        self._topics[first : self._count, topic_ids.shape[1] :] = 0
        self._kept[first : self._count] = True
        self._indexed[first : self._count] = False
        self._recent.update(zip(post_ids.tolist(), range(first, self._count), strict=True))
        if len(self._recent) > max(_SMALLEST, self._sorted // 8):
            self._sort()
        return np.arange(first, self._count)

    def find(self, post_ids: U64) -> Slots:
        """Slots of posts, -1 for those that are not kept."""
        found = np.full(len(post_ids), -1, np.int64)
        if len(self._ids) and len(post_ids):
            at = np.minimum(np.searchsorted(self._ids, post_ids), len(self._ids) - 1)
            hit = self._ids[at] == post_ids
            found[hit] = self._order[at[hit]]
        if self._recent:
            recent = np.array([self._recent.get(post, -1) for post in post_ids.tolist()], np.int64)
            found = np.where(recent >= 0, recent, found)
        found[(found >= 0) & ~self._kept[found]] = -1
        return found

    def of_author(self, author_id: int) -> Slots:
        """Slots of an author's kept posts."""
        return np.flatnonzero((self.author_ids == np.uint64(author_id)) & self.kept)

    def created_before(self, time_ms: int) -> Slots:
        """Slots of kept posts older than a time."""
        return np.flatnonzero((self.created_ms < time_ms) & self.kept)

    def give_up(self, slots: Slots) -> None:
        """Keep these posts no longer."""
        self._kept[slots] = False

    def vacuum(self) -> bool:
        """Free the slots of given-up posts if they are many; True if slots changed."""
        kept = np.flatnonzero(self.kept)
        if self._count - len(kept) <= max(_SMALLEST, self._count // 4):
            return False
        for column in (self._post, self._author, self._created, self._topics, self._kept, self._indexed):
            column[: len(kept)] = column[kept]
        self._count = len(kept)
        self._sort()
        return True

    def _sort(self) -> None:
        # Equal ids: a post that came again after it had been given up; the later slot is the one that may be kept.
        order = np.argsort(self.post_ids, kind="stable")
        ids = self.post_ids[order]
        last = np.r_[ids[1:] != ids[:-1], np.ones(min(len(ids), 1), bool)]
        self._ids, self._order, self._sorted = ids[last], order[last], self._count
        self._recent.clear()

    def _reserve(self, slots: int, topics: int) -> None:
        capacity, width = self._topics.shape
        if slots > capacity:
            capacity = max(slots, capacity + capacity // 2)
            for name in ("_post", "_author", "_created", "_kept", "_indexed"):
                old = getattr(self, name)
                fresh = np.zeros(capacity, old.dtype)
                fresh[: self._count] = old[: self._count]
                setattr(self, name, fresh)
        if capacity > len(self._topics) or topics > width:
            wider = np.zeros((capacity, max(width, topics)), np.int64)
            wider[: self._count, :width] = self._topics[: self._count]
            self._topics = wider
