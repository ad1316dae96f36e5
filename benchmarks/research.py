"""Preference research: vmapped training against one run after another, converged fits against scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np


class Training:
    """Sixty Bradley-Terry runs of the directional study's shape (30 of 20 pairs, 30 of 1,600), D = 19."""

    timeout = 600
    params = ("vmapped", "one_by_one")
    param_names = ("way",)

    def setup(self, way: str) -> None:
        from xfast.research import directions, synthetic, training

        self.environment = synthetic.environment(1_305)
        self.runs = [
            directions.proxy_run(self.environment, "user", n, seed=seed) for n in (25, 2_000) for seed in range(30)
        ]
        self.training = training
        self.time_train(way)  # compile

    def time_train(self, way: str) -> None:
        if way == "vmapped":
            self.training.fit(self.environment.features, self.runs)
        else:
            for run in self.runs:
                self.training.fit(self.environment.features, [run])


class Converged:
    """One converged fit on 1,600 pairs: damped Newton against scikit-learn's L-BFGS and Newton-Cholesky."""

    params = ("newton", "sklearn_lbfgs", "sklearn_newton")
    param_names = ("solver",)

    def setup(self, solver: str) -> None:
        from sklearn.linear_model import LogisticRegression

        from xfast.research import convergence, directions, losses, synthetic

        environment = synthetic.environment(1_305)
        pairs = directions.proxy_run(environment, "user", 2_000, seed=0).pairs
        self.x: Any = environment.features[pairs[:, 0]] - environment.features[pairs[:, 1]]
        self.loss, self.convergence = losses.bradley_terry(), convergence
        rows = 2 * len(self.x)
        names = {"sklearn_lbfgs": "lbfgs", "sklearn_newton": "newton-cholesky"}
        if solver in names:
            self.model = LogisticRegression(
                C=1 / (0.002 * rows), fit_intercept=False, tol=1e-10, max_iter=1_000, solver=names[solver]
            )
            self.doubled = np.vstack([self.x, -self.x])
            self.wins = np.repeat([1, 0], len(self.x))

    def time_fit(self, solver: str) -> None:
        if solver == "newton":
            self.convergence.newton(self.x, self.loss)
        else:
            self.model.fit(self.doubled, self.wins)


class Frontier:
    """The 21-point greedy frontier of 1,305 items, and of 25 scorers at once."""

    params = (1, 25)
    param_names = ("scorers",)

    def setup(self, scorers: int) -> None:
        from xfast.research import frontier

        rng = np.random.default_rng(0)
        self.scores, self.topics = rng.normal(size=(scorers, 1_305)), rng.integers(0, 19, 1_305)
        self.slates = frontier.slates

    def time_slates(self, scorers: int) -> None:
        self.slates(self.scores, self.topics)


class Audit:
    """A whole audit of 500 items with the default seeds."""

    timeout = 300

    def setup(self) -> None:
        from xfast.research import audit, synthetic

        self.features = synthetic.pool(500, np.random.default_rng(0))[0]
        self.audit = audit
        self.time_audit()

    def time_audit(self) -> None:
        feed, society = self.audit.read_weights("2026-08"), self.audit.read_society(None)
        self.audit.audit(feed, society, self.features, rng=np.random.default_rng(0), items_from="synthetic")
