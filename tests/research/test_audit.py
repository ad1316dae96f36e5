"""The audit: inputs, verdicts, and a report that needs nothing from outside."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from xfast.cli import main
from xfast.errors import ConfigurationError, DataError, ParameterError
from xfast.mixer.params import Params
from xfast.research import audit, space, synthetic

FAST = {"seeds": 2, "resamples": 100}


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    return synthetic.pool(120, np.random.default_rng(0))[0]


def run(weights: np.ndarray, features: np.ndarray) -> audit.Audit:
    feed = audit.FeedWeights("test", weights)
    return audit.audit(
        feed, audit.read_society(None), features, rng=np.random.default_rng(0), items_from="test", **FAST
    )


def test_society_itself_is_for_society_and_its_opposite_against(features: np.ndarray) -> None:
    assert run(space.alpha_weights(4.0), features).verdict == "works for"
    against = run(-space.alpha_weights(4.0), features)
    assert against.verdict == "works against"
    assert any("Escalate" in sentence for sentence in against.sentences)
    assert against.numbers["judges"]["society"]["correlation"] == pytest.approx(-1)


def test_silent_actions_and_open_verdicts_are_said_plainly(features: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    few = np.zeros((60, 18))
    few[:, space.POSITIVE_MASK] = rng.random((60, 5)) * 0.3
    found = run(space.alpha_weights(4.0), few)
    assert any("13 of 18 actions do not vary" in sentence for sentence in found.sentences)
    unrelated = features.copy()
    unrelated[:, space.ACTIONS.index("dwell")] = rng.random(len(features))
    found = run(space.vector({"dwell": 1.0}), unrelated)
    assert found.verdict == "cannot tell"
    assert not any("survives" in sentence for sentence in found.sentences)


def test_scale_of_the_weights_does_not_matter(features: np.ndarray) -> None:
    one, thousand = run(space.HAND_WEIGHTS, features), run(1000 * space.HAND_WEIGHTS, features)
    for field in ("temperature_norm", "pairs_curve"):
        np.testing.assert_allclose(
            np.hstack([np.ravel(v) for v in one.numbers[field].values() if isinstance(v, list)]),
            np.hstack([np.ravel(v) for v in thousand.numbers[field].values() if isinstance(v, list)]),
        )


def test_published_feed_names_parameters_and_actions(tmp_path: Path) -> None:
    file = tmp_path / "feed.toml"
    file.write_text('params = "2026-08"\nFavoriteWeight = 2.0\nNotDwelledWeight = -0.02\n[weights]\nrepost = 3.0\n')
    found = audit.read_weights(str(file))
    expected = space.vector({**audit.PRESETS["2026-08"], "favorite": 2.0, "retweet": 3.0})
    assert (found.weights == expected).all()
    assert found.ignored == {"NotDwelledWeight": -0.02}
    assert expected[space.ACTIONS.index("report")] == -234.0


def test_presets_are_the_mixers_own(tmp_path: Path) -> None:
    params = Params.preset("2026-08")
    assert audit.PRESETS["2026-08"]["report"] == params.report_weight
    assert audit.PRESETS["2026-08"]["retweet"] == params.retweet_weight
    file = tmp_path / "feed.toml"
    file.write_text("[params]\nreply_weight = 2.5\nMAX_POST_AGE = 86400\nQuotedVqvWeight = 0.1\n")
    found = audit.read_weights(str(file))
    mixer = Params.load(file)
    assert dict(zip(space.ACTIONS, found.weights, strict=True))["reply"] == mixer.reply_weight == 2.5
    assert dict(zip(space.ACTIONS, found.weights, strict=True))["report"] == mixer.report_weight
    assert found.ignored == {"QuotedVqvWeight": 0.1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('preset = "2031"', "preset is '2031'"),
        ("[weights]\nlikes_and_hugs = 1", "likes_and_hugs"),
        ("favorite = true", "favorite is True"),
        ("favorite = nan", "favorite is nan"),
        ("[server]\nport = 1", "no preset and no action weight"),
        ("x = ", "neither a preset"),
    ],
)
def test_bad_weights_say_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "feed.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        audit.read_weights(str(file))


def test_bad_society_and_items(tmp_path: Path) -> None:
    file = tmp_path / "society.yaml"
    for text, message in (
        ("[]", "mapping"),
        ("us: {alpha: 1, weights: {}}", "exactly one"),
        ("us: {alpha: x}", r"us\.alpha is 'x'; a finite"),
        ("us: {weights: {hugs: 1}}", r"us\.weights has 'hugs'; known are favorite"),
        ("us: {weights: {report: .inf}}", r"us\.weights\.report is inf"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigurationError, match=message):
            audit.read_society(file)
    items = tmp_path / "items.parquet"
    for columns, message in (
        ({"favorite": [0.1, 0.2, 1.7]}, r"column 'favorite', row 2 is 1.7, must lie in \[0, 1\]"),
        ({"reply": [0.1, None, 0.2]}, "column 'reply', row 1 is nan"),
        ({"reply": ["a", "b", "c"]}, "column 'reply' holds String"),
        ({"repost": [0.1] * 3, "retweet": [0.1] * 3}, "'repost' and 'retweet' are both retweet"),
        ({"colour": [0.1] * 3}, "0 action columns"),
    ):
        pl.DataFrame(columns).write_parquet(items)
        with pytest.raises(DataError, match=message):
            audit.read_items(items)
    with pytest.raises(ParameterError, match="at least 20"):
        run(space.HAND_WEIGHTS, np.random.default_rng(0).uniform(size=(5, 18)))


def test_command_writes_json_and_a_page_that_reads_offline(
    tmp_path: Path, features: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = {("repost" if name == "retweet" else name): features[:, i] for i, name in enumerate(space.ACTIONS)}
    pl.DataFrame(columns).write_parquet(tmp_path / "items.parquet")
    (tmp_path / "society.yaml").write_text("<b>children: {weights: {report: -3, favorite: 1}}\nadults: {alpha: 2}\n")
    arguments = ["audit", "--weights", "2026-08", "--seeds", "2"]
    for option, name in (
        ("society", "society.yaml"),
        ("items", "items.parquet"),
        ("json", "a.json"),
        ("html", "a.html"),
    ):
        arguments += [f"--{option}", str(tmp_path / name)]
    assert main(arguments) == 0
    assert "works for <b>children" in capsys.readouterr().out
    document = json.loads((tmp_path / "a.json").read_text())
    assert document["items"] == {"count": 120, "from": "items.parquet", "silent_actions": []}
    assert set(document["judges"]) == {"<b>children", "adults"}
    page = (tmp_path / "a.html").read_text()
    assert page.count("<svg") == 6
    assert "<b>children" not in page
    assert "<script" not in page
    outside = {url for url in re.findall(r"(?:src|href)=\"([^\"]+)\"", page) if not url.startswith(("#", "data:"))}
    assert not outside
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(ids)


def test_command_reports_bad_input_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "--weights", "no-such-file.toml"]) == 2
    assert "neither a preset" in capsys.readouterr().err
