"""``partial-observation``: geometric leave-one-stakeholder-out regret on every data set."""

from __future__ import annotations

from xfast.research import loso
from xfast.research.experiments.base import Context, Experiment, Result, Value, Why, per_dataset

# The scorer everyone else is measured against: the second stakeholder (platform, publisher) of every data set.
SCORER = 1


def run(context: Context, name: str) -> Result:
    """Regret of each hidden stakeholder, with the range that rounding of equal slates leaves open."""
    environment = context.environment(name)
    scorer = environment.weights[SCORER]
    values: dict[str, Value] = {}
    whys, detail = {}, {}
    for hidden in environment.names:
        regret = loso.geometric(environment, scorer, hidden)
        key = f"loso.{name}.hide_{hidden}.avg_regret"
        values[key] = regret.published
        detail[hidden] = {"distinct": regret.distinct, "lowest": regret.lowest, "highest": regret.highest}
        whys[key] = Why(
            "equal slates picked in another order differ in the last bit of their sums, and that bit decides how often "
            "each counts",
            {
                "lowest that rounding allows": regret.lowest,
                "highest that rounding allows": regret.highest,
                "slates compared as sets": regret.distinct,
            },
        )
    return Result(values, whys=whys, detail=detail)


EXPERIMENT = Experiment("partial-observation", "what hiding a stakeholder costs it", per_dataset(run))
