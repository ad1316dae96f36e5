"""Train the models that the package ships for its demo, from the synthetic network of seed 0 and nothing else.

    python scripts/train_demo.py        # writes src/xfast/feed/models; about two minutes on two cores

Tables are stored in float16: the demo ranks the same and the wheel is half the size.
"""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np

from xfast.feed.demo import MODELS, demo_network, train_models
from xfast.phoenix.artifacts import EmbeddingTables, Tower, save_artifacts


def half(tower: Tower) -> Tower:
    """The tower with its tables in float16."""
    tables = (tower.tables.user, tower.tables.item, tower.tables.author)
    return replace(tower, tables=EmbeddingTables(*(np.asarray(table, np.float16) for table in tables)))


def main() -> None:
    ranker, retrieval = train_models(demo_network(0), epochs=8, seed=0, say=print)
    shutil.rmtree(MODELS, ignore_errors=True)
    save_artifacts(MODELS, ranker=half(ranker), retrieval=half(retrieval))
    print(f"{sum(f.stat().st_size for f in MODELS.rglob('*') if f.is_file()) / 2**20:.2f} MiB in {MODELS}")


if __name__ == "__main__":
    main()
