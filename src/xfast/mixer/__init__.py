"""The home mixer: both pipelines of the For You feed with every component of the May-2026 release.

``xfast.mixer.query`` and ``xfast.mixer.candidates`` hold the data, ``xfast.mixer.params`` the configuration; components
live one per module in ``query_hydrators``, ``sources``, ``hydrators``, ``filters``, ``scorers``, ``selectors``, ``ads``
and ``side_effects``. ``docs/names.md`` maps every public name to ours.
"""

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.deciders import Decider
from xfast.mixer.items import FeedItem, FeedItems, ScoredPost
from xfast.mixer.params import Params
from xfast.mixer.query import ScoredPostsQuery

__all__ = [
    "CandidateBatch",
    "Decider",
    "FeedItem",
    "FeedItems",
    "Params",
    "ScoredPost",
    "ScoredPostsQuery",
]
