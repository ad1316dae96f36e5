"""``audit``: the published audit table and the exact threshold, in closed form."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from xfast.research import policies, space
from xfast.research.experiments.base import Context, Experiment, Figure, Part, Result, Series, Value
from xfast.research.theory import threshold


def run(context: Context) -> Result:
    """Cosines of the three stakeholders, of the seven scenarios with society, and the root."""
    stakeholders = space.stakeholders_b()
    society = stakeholders["society"]
    values: dict[str, Value] = {
        f"audit.cos.{a}-{b}": policies.cosine(stakeholders[a], stakeholders[b])
        for a, b in combinations(stakeholders, 2)
    }
    for name, groups in threshold.SCENARIOS.items():
        values[f"audit.scenario.{name}"] = policies.cosine(threshold.grouped(*groups), society)
    plain = threshold.grouped(1.0, 0.0, 0.0)
    root = threshold.root(plain, society, space.NEGATIVE_MASK)
    assert root is not None
    values["audit.exact_threshold_negative_weight"] = root
    grid = np.linspace(-1.0, 1.0, 81)
    lines = []
    for neutral in (0.0, 0.5, 1.0):
        curve = threshold.curve(threshold.grouped(1.0, neutral, 0.0), society, space.NEGATIVE_MASK, grid)
        lines.append(Series(f"neutral weight {neutral}", grid.tolist(), curve.tolist()))
    lines.append(Series("exact root 5/16", [root, root], [-0.4, 0.8]))
    title = "The sign flips at 5/16 whatever neutral actions weigh"
    return Result(
        values,
        figures={
            "audit-threshold": Figure(title, "platform's weight on negative actions", "cosine with society", lines)
        },
    )


EXPERIMENT = Experiment("audit", "the audit table and the exact threshold", (Part("closed-form", run),))
