"""The demo feed: what it shows, what it leaves out, and that it says why."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.feed.conftest import MODEL_CONFIG
from tests.phoenix.models import random_tower
from xfast.cli.main import main
from xfast.errors import ParameterError
from xfast.events import EventBatch
from xfast.feed import Feed, FeedItem, PromotedItem
from xfast.feed.demo import demo_network, typical_viewer
from xfast.phoenix.artifacts import Tower
from xfast.stores import Relation


def test_a_page_is_ranked_complete_and_explained(demo: Feed) -> None:
    viewer = typical_viewer(demo)
    page = demo.for_you(viewer, explain=True, remember=False)
    assert page.failures == []
    assert len(page) == 35
    assert [item.rank for item in page] == list(range(1, 36))
    scores = [item.score for item in page]
    assert scores == sorted(scores, reverse=True)
    assert len({item.post_id for item in page}) == 35
    for item in page:
        assert (len(item.probabilities), len(item.continuous)) == (20, 2), "our own models fill all heads"
        assert all(0 <= p <= 1 for p in item.probabilities.values())
        weighted = sum(value for name, value in item.terms.items() if name.endswith(" x weight"))
        factors = item.terms["author diversity"] * item.terms["out of network"]
        if weighted >= 0:
            ranked = (weighted + demo.params.negative_scores_offset) * factors
            assert item.score == pytest.approx(ranked * item.terms.get("value model", 1.0))
    assert {item.in_network for item in page} == {True, False}
    assert {"for_you_in_network", "for_you_phoenix_retrieval"} <= {item.source for item in page}
    assert all(each.filter.endswith("Filter") and each.reason for each in page.removed)
    assert len(Counter(each.filter for each in page.removed)) >= 5


def test_nothing_seen_muted_blocked_own_or_old_is_shown(demo: Feed) -> None:
    store, shown = demo.network.store, 0
    for viewer in demo.users[:: max(1, len(demo.users) // 12)].tolist():
        page = demo.for_you(viewer, remember=False)
        posts = np.array([item.post_id for item in page], np.uint64)
        authors = np.array([item.author_id for item in page], np.uint64)
        assert not np.isin(posts, store.seen(viewer)).any()
        relations = {each: store.related([viewer], each).values for each in Relation}
        assert not np.isin(authors, [viewer, *relations[Relation.BLOCK], *relations[Relation.MUTE]]).any()
        age = demo.now_ms - np.array([item.created_at_ms for item in page], np.int64)
        assert (age <= demo.params.max_post_age * 1000).all()
        assert [item.in_network for item in page] == np.isin(authors, relations[Relation.FOLLOW]).tolist()
        shown += len(page)
    assert shown > 200


def test_the_same_request_gives_the_same_page(demo: Feed) -> None:
    viewer = typical_viewer(demo)

    def page() -> Any:
        made = demo.for_you(viewer, 10, explain=True, remember=False)
        return made.items, sorted(made.removed, key=str), [item.kind for item in made.timeline]

    assert page() == page()


def test_the_ranking_knows_the_hidden_truth(demo: Feed) -> None:
    """Predicted favourites rank candidates as the network's true probabilities do, better than chance by far."""
    from xfast.world import SyntheticConfig, generate
    from xfast.world.truth import HEADS

    truth = generate(SyntheticConfig(), 0).truth
    agreement = []
    for viewer in demo.users[5:400:25].tolist():
        page = demo.for_you(viewer, remember=False)
        if len(page) < 20:
            continue
        known = [item for item in page if not item.reposted_post_id]
        user, post = truth.rows(np.full(len(known), viewer, np.uint64), [item.post_id for item in known])
        true = truth.probabilities(user, post, np.full(len(known), demo.now_ms))[:, HEADS.index("favorite")]
        predicted = np.array([item.probabilities["favorite"] for item in known])
        agreement.append(np.corrcoef(np.argsort(np.argsort(true)), np.argsort(np.argsort(predicted)))[0, 1])
    assert len(agreement) > 10
    assert np.mean(agreement) > 0.15


def test_every_candidate_can_be_explained(demo: Feed) -> None:
    viewer = typical_viewer(demo)
    page = demo.for_you(viewer, explain=True, remember=False)
    shown: FeedItem = page[3]
    found = demo.explain(viewer, shown.post_id)
    assert (found.status, found.summary) == ("shown", "shown at place 4 of 35")
    assert found.item is not None and found.item.post_id == shown.post_id
    (story, *_) = [each for each in found.stories if not each.removed_by]
    assert story.terms == shown.terms and story.probabilities == pytest.approx(shown.probabilities)
    by_filter = {each.filter: each for each in page.removed}
    for name, each in by_filter.items():
        if name != "DropDuplicatesFilter":
            found = demo.explain(viewer, each.post_id)
            assert found.status in ("removed", "shown", "not selected"), found
            assert name in {story.removed_by for story in found.stories}
    candidates = {each.post_id for each in page.removed} | {item.post_id for item in page}
    others = set(demo.network.store.posts_by(demo.users).values.tolist()) - candidates
    assert {demo.explain(viewer, post).status for post in sorted(others)[:4]} <= {"not retrieved", "not selected"}


def test_strangers_and_bad_seeds(demo: Feed) -> None:
    page = demo.for_you(12345, remember=False)
    assert len(page) == 35 and not any(item.in_network for item in page)
    with pytest.raises(ParameterError, match="seed is -1"):
        Feed.demo(-1)


def test_demo_network_is_the_one_the_models_know(demo: Feed) -> None:
    events = demo_network(0)
    assert len(events) > 100_000
    assert demo.now_ms == int(events.time_ms.max())


def test_movielens_stands_at_its_last_rating(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Films do not age, studios are followed, ads stand between films; the models here are random."""
    rng = np.random.default_rng(0)
    rows = [
        f"{user}\t{item}\t{int(rng.integers(3, 6))}\t{880_000_000 + user * 1_000 + item}"
        for user in range(1, 15)
        for item in rng.permutation(np.arange(1, 81))[:40].tolist()
    ]
    (tmp_path / "u.data").write_text("\n".join(rows) + "\n")
    (tmp_path / "u.genre").write_text("Drama|0\nWar|1\n")
    films = [f"{item}|Film {item} (1990)|01-Jan-1990||http://x|{item % 2}|{1 - item % 2}" for item in range(1, 81)]
    (tmp_path / "u.item").write_text("\n".join(films) + "\n")
    towers = random_tower(MODEL_CONFIG), random_tower(MODEL_CONFIG, "retrieval")
    trained: list[int] = []

    def train(events: EventBatch, **options: object) -> tuple[Tower, Tower]:
        trained.append(len(events))
        return towers

    monkeypatch.setattr("xfast.feed.demo.train_models", train)
    said: list[str] = []
    with Feed.movielens(tmp_path, models=tmp_path / "models", on_progress=said.append) as feed:
        page = feed.for_you(3, explain=True)
        assert page.failures == [] and len(page) == 35
        assert all(item.text.startswith("Film") for item in page)
        assert {"for_you_in_network"} <= {item.source for item in page}
        assert "promoted" in {item.kind for item in page.timeline}
        rated = {int(row.split("\t")[1]) for row in rows if row.startswith("3\t")}
        assert not {f"Film {number} (1990)" for number in rated} & {item.text for item in page}
        assert "PreviouslySeenPostsFilter" in {each.filter for each in page.removed}
        scores = [item.score for item in page]
    assert any("feeding" in line for line in said)
    with Feed.movielens(tmp_path, models=tmp_path / "models") as feed:
        assert [item.score for item in feed.for_you(3)] == pytest.approx(scores, rel=1e-5), "the models of the first"
    assert len(trained) == 1


@pytest.fixture
def shared_demo(demo: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands use the feed that is here already, and leave it open."""
    monkeypatch.setattr(Feed, "demo", classmethod(lambda cls, *args, **options: demo))
    monkeypatch.setattr(Feed, "close", lambda self: None)


@pytest.mark.usefixtures("shared_demo")
@pytest.mark.parametrize("columns", [80, 120])
def test_commands_print_what_a_person_can_read(
    demo: Feed, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    from rich.cells import cell_len

    monkeypatch.setenv("COLUMNS", str(columns))
    viewer = typical_viewer(demo)
    hidden = demo.for_you(viewer, explain=True, remember=False).removed[-1].post_id
    assert main(["demo", "--limit", "6"]) == 0
    assert main(["explain", str(viewer), "#2"]) == 0
    assert main(["explain", str(viewer), str(hidden)]) == 0
    assert main(["explain", str(viewer), "1"]) == 0
    out = capsys.readouterr().out
    for word in ("For You", "because", "likely", "promoted", "discovered", "shown at place 2", "removed by", "unknown"):
        assert word in out, word
    assert max(cell_len(line) for line in out.splitlines()) <= columns


@pytest.mark.usefixtures("shared_demo")
def test_commands_refuse_what_makes_no_sense(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["demo", "--train", "--movielens", "x"], "--train is given with --movielens"),
        (["demo", "--models", "x"], "--models is given without --movielens"),
        (["explain", "7", "5", "--models", "x"], "--models is given without --movielens"),
        (["explain", "@nobody_at_all", "5"], "user is '@nobody_at_all', nobody has that name"),
        (["explain", "7", "five"], "post is 'five', must be an id"),
        (["explain", "7", "#99"], "rank is 99, the page has 1 to 35"),
        (["explain", "7", "5", "nowhere.toml"], "nowhere.toml: no such file"),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err


@pytest.mark.usefixtures("shared_demo")
def test_explanations_as_json(demo: Feed, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    assert main(["explain", str(typical_viewer(demo)), "#1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "shown"


def test_ads_stand_between_the_posts(demo: Feed) -> None:
    # Somebody whom no other test serves: suggestions and ads rest after they were shown.
    following = demo.network.store.users(demo.users).following
    viewer = next(int(user) for user in demo.users[following >= 30] if user != typical_viewer(demo))
    page = demo.for_you(viewer)
    kinds = [item.kind for item in page.timeline]
    assert kinds.count("post") == len(page) == 35
    assert kinds.count("promoted") >= 2 and kinds.count("who_to_follow") == 1
    assert [item.position for item in page.timeline] == list(range(len(kinds)))
    promoted = [item for item in page.timeline if item.kind == "promoted"]
    names = {item.author for item in promoted if isinstance(item, PromotedItem)}
    assert names <= {"harbour_coffee", "northline_rail", "paper_and_pine", "lumen_bikes"}
    assert kinds[0] != "promoted" and all(a != b for a, b in pairwise(kinds) if a == "promoted")
    plain = page.to_dict()
    assert [item["kind"] for item in plain["items"]] == kinds
    first = page[0]
    assert plain["items"][first.position]["post_id"] == str(first.post_id), "browsers keep 53 bits of a number"
    again = demo.for_you(viewer)
    assert not {item.post_id for item in page} & {item.post_id for item in again}
