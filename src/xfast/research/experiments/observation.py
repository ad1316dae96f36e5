"""``partial-observation``: geometric leave-one-stakeholder-out regret on every data set."""

from __future__ import annotations

from xfast.research import loso
from xfast.research.experiments.base import Context, Experiment, Result, Value, per_dataset

# The scorer everyone else is measured against: the second stakeholder (platform, publisher) of every data set.
SCORER = 1


def run(context: Context, name: str) -> Result:
    """Regret of each hidden stakeholder, with the range that rounding of equal slates leaves open."""
    environment = context.environment(name)
    scorer = environment.weights[SCORER]
    values: dict[str, Value] = {}
    notes, detail = {}, {}
    for hidden in environment.names:
        regret = loso.geometric(environment, scorer, hidden)
        key = f"loso.{name}.hide_{hidden}.avg_regret"
        values[key] = regret.published
        detail[hidden] = {"distinct": regret.distinct, "lowest": regret.lowest, "highest": regret.highest}
        notes[key] = (
            "equal slates picked in another order differ in the last bit of their sums, and that bit decides how often "
            f"each counts: every value from {regret.lowest:.4f} to {regret.highest:.4f} can come out; comparing slates "
            f"as sets gives {regret.distinct:.4f}"
        )
    return Result(values, notes=notes, detail=detail)


EXPERIMENT = Experiment("partial-observation", "what hiding a stakeholder costs it", per_dataset(run))
