"""Worlds to run a feed on: importers of real data sets, and a seeded synthetic network with known truth."""

from xfast.world.config import SyntheticConfig
from xfast.world.dataset import Imported
from xfast.world.interactions import Histories, Interactions, interactions
from xfast.world.mind import import_mind
from xfast.world.movielens import import_movielens
from xfast.world.report import ImportReport, Problem
from xfast.world.synthetic import World, generate
from xfast.world.tables import import_tables
from xfast.world.truth import Truth

__all__ = [
    "Histories",
    "ImportReport",
    "Imported",
    "Interactions",
    "Problem",
    "SyntheticConfig",
    "Truth",
    "World",
    "generate",
    "import_mind",
    "import_movielens",
    "import_tables",
    "interactions",
]
