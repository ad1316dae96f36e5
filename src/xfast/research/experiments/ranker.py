"""``ranker``: the published ranker study on MovieLens-100K — NDCG@3 of lists of eight, trajectories, eight bits."""

from __future__ import annotations

import numpy as np

from xfast.phoenix import Ranker
from xfast.phoenix.artifacts import Tower
from xfast.phoenix.training import Sequences
from xfast.research import ranking
from xfast.research.environment import F64
from xfast.research.experiments.base import Context, Experiment, Part, Result, Value, Why, with_error

LOSSES: tuple[ranking.LossName, ...] = ("bpr", "bce", "untrained")
EPOCHS = (1, 2, 8)
RATE = 5e-4  # published
ABLATIONS = (0.9, 0.7, 0.5, 0.0)


def run(context: Context, name: str = "ml-100k") -> Result:
    """Train both losses, rank, quantise, cut histories, follow trajectories; also after fewer epochs."""
    data = ranking.split(context.folders[name])
    sequences = Sequences.from_interactions(data.rows.take(np.flatnonzero(data.train)))
    limit = context.count(3_000, 20)
    lists = {
        "val": ranking.cases(data, data.validation, limit=limit),
        "test": ranking.cases(data, data.test, limit=limit),
    }
    uniform = ranking.cases(data, data.test, limit=limit // 2, popular=False)
    few = {part: cases[: limit // 3] for part, cases in lists.items()}
    walked = lists["test"][: context.count(300, 4)]
    epochs = EPOCHS[: context.count(len(EPOCHS), 1)]
    values: dict[str, Value] = {}
    found: dict[str, F64] = {}
    towers: dict[str, Tower] = {}
    curve: dict[str, dict[str, float]] = {}
    paths: dict[str, Value] = {}
    eight: dict[str, Value] = {}
    for loss in LOSSES:
        for count in epochs if loss != "untrained" else epochs[:1]:
            towers[loss] = ranking.train(sequences, loss, epochs=count, rate=RATE)
            ranker = Ranker(towers[loss])
            label = "untrained" if loss == "untrained" else f"{loss}, {count} epoch{'s' * (count > 1)}"
            for part, cases in few.items():
                mean = float(ranking.ndcg3(ranking.scores(ranker, cases)).mean())
                curve.setdefault(f"{part}_{loss}", {})[label] = mean
            paths[label] = ranking.trajectory_tau(ranker, walked[: len(walked) // 3 + 1])
            eight[label] = with_error(_overlaps(towers[loss], few["test"]))
        for part, cases in lists.items():
            found[f"{part}_{loss}"] = ranking.scores(ranker, cases)
        easy = ranking.scores(ranker, uniform)
        curve[f"test_{loss}"][f"{label}, other films drawn evenly"] = float(ranking.ndcg3(easy).mean())
    ndcg = {key: with_error(ranking.ndcg3(scores)) for key, scores in found.items()}
    for loss in ("bpr", "bce"):
        for part in lists:
            values[f"phoenix.{part}_ndcg3_{loss}"] = ndcg[f"{part}_{loss}"]
        quantised = ranking.scores(Ranker(towers[loss], precision="int8"), lists["test"])
        exact = found[f"test_{loss}"]
        values[f"optim.int8_top3_overlap_{loss}_model"] = with_error(ranking.overlap3(exact, quantised))
        kept = ranking.ndcg3(quantised).mean() / ranking.ndcg3(exact).mean()
        values[f"optim.int8_ndcg_retention_{loss}_model"] = float(kept)
    values["phoenix.untrained_ndcg3"] = ndcg["val_untrained"]
    bpr = Ranker(towers["bpr"])
    values["trajectory.tau_bpr"] = ranking.trajectory_tau(bpr, walked)
    whole = found["test_bpr"]
    cut = {
        keep: ranking.order_changes(whole, ranking.scores(bpr, [ranking.without(c, keep) for c in lists["test"]]))
        for keep in ABLATIONS
    }
    values["counterfactual.top1_change_rate"], values["counterfactual.tau"] = cut[0.5]
    whys = {
        f"phoenix.{part}_ndcg3_{loss}": Why(
            "the checkpoint is not public, nor how the other seven films are drawn and where training stopped; here "
            f"they are those of other rows of the same part (chance {chance():.3f}), {epochs[-1]} epochs at the "
            f"published rate shown, the others on {len(few[part])} lists",
            {**curve[f"{part}_untrained"], **curve[f"{part}_{loss}"]},
        )
        for part in lists
        for loss in ("bpr", "bce")
    }
    whys["trajectory.tau_bpr"] = Why(
        f"the checkpoint is not public, and the viewer's behaviour is open; {len(walked)} viewers like the best film "
        "left, five times, lists of eight",
        paths,
    )
    for loss in ("bpr", "bce"):
        whys[f"optim.int8_top3_overlap_{loss}_model"] = Why(
            "checkpoints are not public; int8 engine to float32 on rankers trained here", {**eight}
        )
    for place, key in enumerate(("top1_change_rate", "tau")):
        whys[f"counterfactual.{key}"] = Why(
            "what the published counterfactual takes away is not stated; by share of the history that stays",
            {f"{keep:.0%} kept": changes[place] for keep, changes in cut.items()},
        )
    return Result(
        values,
        whys=whys,
        detail={"ndcg3": ndcg, "ndcg3_by_epochs": curve, "history_kept": {str(k): v for k, v in cut.items()}},
    )


def _overlaps(tower: Tower, cases: list[ranking.Case]) -> F64:
    """Share of common films among the first three of each list, int8 against float32."""
    exact = ranking.scores(Ranker(tower), cases)
    return ranking.overlap3(exact, ranking.scores(Ranker(tower, precision="int8"), cases))


def chance() -> float:
    """Expected NDCG@3 of a random order of one liked film among eight."""
    return float(np.mean([1.0 / np.log2(rank + 2.0) if rank < 3 else 0.0 for rank in range(ranking.LIST)]))


EXPERIMENT = Experiment("ranker", "the ranker study on MovieLens-100K", (Part("ml-100k", run, dataset="ml-100k"),))
