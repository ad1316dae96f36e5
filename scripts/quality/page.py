"""The report as Markdown."""

from __future__ import annotations

from typing import Any


def goals_of(report: dict[str, Any]) -> dict[str, bool]:
    """Goals of all experiments, and whether they were met."""
    parts = [report.get(name, {}).get("goals", {}) for name in ("next_post", "liked")]
    return {goal: met for part in parts for goal, met in part.items()}


def _bounds(values: list[float]) -> str:
    return "{:.4f} [{:.4f}, {:.4f}]".format(*values)


def write_page(report: dict[str, Any]) -> str:
    """Tables of both experiments."""
    spent = f"{report['cpu_seconds']:.0f} s of processor time, {report['wall_seconds']:.0f} s on the clock"
    lines = [f"Measured with `{report['command']}` at commit {report['commit']} on {report['machine']}: {spent}.", ""]
    if "next_post" in report:
        lines += _next_post(report["next_post"])
    if "liked" in report:
        lines += _liked(report["liked"])
    lines += [f"- {'met' if met else 'MISSED'}: {goal}" for goal, met in goals_of(report).items()]
    return "\n".join(lines) + "\n"


def _next_post(part: dict[str, Any]) -> list[str]:
    lines = [
        f"### Next post: leave-last-out, whole catalogue, {part['users']} users, 95 % bootstrap intervals",
        "",
        "| model | HR@10 | HR@50 | NDCG@10 |",
        "|---|---|---|---|",
    ]
    for row in part["rows"]:
        lines.append(
            f"| {row['name']} | {_bounds(row['HR@10'])} | {_bounds(row['HR@50'])} | {_bounds(row['NDCG@10'])} |"
        )
    paired = f"one tower {_bounds(part['single_minus_recent_knn'])}, last line {_bounds(part['best_minus_recent_knn'])}"
    lines += ["", f"One tower reaches {part['ratio_to_full_knn']:.2f} x item-kNN (full history)."]
    lines += [f"Paired difference in NDCG@10 to item-kNN (last 3): {paired}.", ""]
    return lines


def _liked(part: dict[str, Any]) -> list[str]:
    lines = [
        f"### Liked: {part['rows']:,} rows, {part['rows_of_unknown_users']:,} of users without a training row",
        "",
        "| model | AUC |",
        "|---|---|",
    ]
    lines += [f"| {name} | {value:.4f} |" for name, value in part["auc"].items()]
    known, unknown = part["auc_known_users"], part["auc_unknown_users"]
    validation = ", ".join(f"{value:.4f}" for value in part["validation"])
    lines += [
        "",
        f"Ranker (weights fixed) minus online bias: {_bounds(part['difference_by_row'])} resampling rows,",
        f"{_bounds(part['difference_by_user'])} resampling users; learning on the way",
        f"{_bounds(part['learning_difference_by_user'])} resampling users.",
        f"Epochs: AUC on the tenth before the measured one was {validation}",
        f"after 1, 2, … epochs, so the measured model had {1 + part['validation'].index(max(part['validation']))}.",
        f"Users with training rows: {known[1]:.4f} against {known[0]:.4f}; without: {unknown[1]:.4f} against",
        f"{unknown[0]:.4f}. Log-loss {part['log_loss']:.4f}, calibration error {part['calibration_error']:.4f}.",
        "",
    ]
    return lines
