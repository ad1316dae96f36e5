"""The audit: does a feed that follows these weights work for or against a society nobody asked?"""

from xfast.research.audit.analysis import Audit, audit
from xfast.research.audit.inputs import PRESETS, FeedWeights, Society, read_items, read_society, read_weights
from xfast.research.audit.page import render

__all__ = [
    "PRESETS",
    "Audit",
    "FeedWeights",
    "Society",
    "audit",
    "read_items",
    "read_society",
    "read_weights",
    "render",
]
