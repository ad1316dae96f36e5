"""``data-budget``: how many pairs of a hidden stakeholder win back 50 % and 80 % of what hiding it cost."""

from __future__ import annotations

from xfast.research import loso
from xfast.research.experiments.base import Context, Experiment, Figure, Result, Series, Value, per_dataset


def run(context: Context, name: str) -> Result:
    """N50 and N80 of every base stakeholder, as published and with the learned vector at its true length."""
    environment = context.environment(name)
    seeds = tuple(42 + 100 * i for i in range(context.count(20, 2)))
    values: dict[str, Value] = {}
    rescaled, series = {}, []
    for hidden in environment.names:
        found = loso.data_budget(environment, hidden, seeds=seeds)
        honest = loso.data_budget(environment, hidden, seeds=seeds, rescale=True)
        stem = f"budget.{name}.hide_{hidden}"
        values[f"{stem}.N50"], values[f"{stem}.N80"] = as_text(found.n50), as_text(found.n80)
        values[f"{stem}.loso_baseline_regret"] = float(found.regret[0])
        values[f"budget.{name}.{hidden}.N50_N80"] = f"{as_text(found.n50)}/{as_text(found.n80)}"
        rescaled[hidden] = {"N50": honest.n50, "N80": honest.n80, "regret": honest.regret, "published": found.regret}
        for n, regret in zip(loso.BUDGETS, found.regret, strict=True):
            values[f"{stem}.regret_N{n}"] = float(regret)
        grid = [float(n) for n in loso.BUDGETS]
        series.append(Series(f"{hidden} (as published)", grid, found.regret.tolist()))
        series.append(Series(f"{hidden} (true length)", grid, honest.regret.tolist()))
    return Result(
        values,
        detail={"rescaled_to_true_length": rescaled},
        figures={
            f"budget-{name}": Figure(f"{name}: data budget", "pairs of the hidden stakeholder", "mean regret", series)
        },
    )


def as_text(pairs: float) -> str:
    """A pair count, or ``>500`` where the curve never gets there."""
    return f"{pairs:.1f}" if pairs <= loso.BUDGETS[-1] else f">{loso.BUDGETS[-1]}"


EXPERIMENT = Experiment("data-budget", "pairs a hidden stakeholder needs to be seen", per_dataset(run))
