"""The demo feed: what it shows, what it leaves out, and that it says why."""

from __future__ import annotations

import numpy as np
import pytest

import xfast
from xfast.cli.main import main
from xfast.errors import ParameterError
from xfast.events import EventBatch
from xfast.feed import Feed
from xfast.feed.demo import demo_network, typical_viewer
from xfast.feed.network import Network


@pytest.fixture(scope="module")
def feed() -> Feed:
    return xfast.Feed.demo()  # type: ignore[no-any-return]


def test_a_page_is_ranked_complete_and_explained(feed: Feed) -> None:
    viewer = typical_viewer(feed)
    page = feed.for_you(viewer, explain=True)
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
            assert item.score == pytest.approx((weighted + feed.params.negative_scores_offset) * factors)
    assert {item.in_network for item in page} == {True, False}


def test_nothing_seen_muted_blocked_own_or_old_is_shown(feed: Feed) -> None:
    network = feed.network
    shown = 0
    for viewer in feed.users[:: max(1, len(feed.users) // 12)].tolist():
        page = feed.for_you(viewer, limit=100)
        posts = np.array([item.post_id for item in page], np.uint64)
        authors = np.array([item.author_id for item in page], np.uint64)
        assert not np.isin(posts, network.seen(viewer)).any()
        assert not np.isin(authors, [viewer, *network.blocks.of(viewer), *network.mutes.of(viewer)]).any()
        age = network.now_ms - network.posts["created_at_ms"][network.row_of(posts)]
        assert (age <= feed.params.max_post_age * 1000).all()
        followed = np.isin(authors, network.follows.of(viewer))
        assert [item.in_network for item in page] == followed.tolist()
        shown += len(page)
    assert shown > 200


def test_the_same_request_gives_the_same_page(feed: Feed) -> None:
    viewer = typical_viewer(feed)
    assert feed.for_you(viewer, 10, explain=True) == feed.for_you(viewer, 10, explain=True)


def test_the_ranking_knows_the_hidden_truth(feed: Feed) -> None:
    """Predicted favourites rank candidates as the network's true probabilities do, better than chance by far."""
    from xfast.world import SyntheticConfig, generate
    from xfast.world.truth import HEADS

    truth = generate(SyntheticConfig(), 0).truth
    agreement = []
    for viewer in feed.users[5:400:13].tolist():
        page = feed.for_you(viewer, limit=200)
        if len(page) < 20:
            continue
        user, post = truth.rows(np.full(len(page), viewer, np.uint64), [item.post_id for item in page])
        true = truth.probabilities(user, post, np.full(len(page), feed.network.now_ms))[:, HEADS.index("favorite")]
        predicted = np.array([item.probabilities["favorite"] for item in page])
        agreement.append(np.corrcoef(np.argsort(np.argsort(true)), np.argsort(np.argsort(predicted)))[0, 1])
    assert np.mean(agreement) > 0.25


def test_bad_requests_name_what_is_wrong(feed: Feed) -> None:
    with pytest.raises(ParameterError, match="user_id is 12345, no event mentions that user"):
        feed.for_you(12345)
    with pytest.raises(ParameterError, match="limit is 0, must be at least 1"):
        feed.for_you(typical_viewer(feed), 0)
    with pytest.raises(ParameterError, match="seed is -1"):
        Feed.demo(-1)
    with pytest.raises(ParameterError, match="events is empty"):
        Feed(EventBatch.empty(), feed.ranker._tower, feed.ranker._tower)


def test_relations_follow_the_last_event() -> None:
    def pair(kind: str, time_ms: int, target: int) -> EventBatch:
        return EventBatch.of(kind, [time_ms], user_id=[7], target_user_id=[target])

    events = EventBatch.concat(
        [
            pair("follow", 1, 1),
            pair("follow", 1, 2),
            pair("unfollow", 2, 1),
            pair("follow", 3, 1),
            pair("unfollow", 4, 2),
        ]
    )
    assert Network.of(events, 10).follows.of(7).tolist() == [1]
    assert Network.of(events, 2).follows.of(7).tolist() == [2]


def test_demo_network_is_the_one_the_models_know(feed: Feed) -> None:
    events = demo_network(0)
    assert len(events) > 100_000
    assert feed.network.now_ms == int(events.time_ms.max())


def test_command_prints_a_feed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--limit", "3"]) == 0
    out = capsys.readouterr().out
    assert "because" in out and "likely" in out and "For You" in out
    assert main(["demo", "--user", "12345"]) == 2
