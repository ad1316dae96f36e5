"""The synthetic network: repeatable, consistent with itself, plausible, and drawn exactly from its truth."""

import re
from pathlib import Path

import numpy as np
import pytest

from xfast.errors import ParameterError
from xfast.events import Kind, to_arrow
from xfast.ids import snowflake_time_ms
from xfast.world import SyntheticConfig, World, generate
from xfast.world.truth import HEADS
from xfast.world.vocabulary import LANGUAGES, language, topics
from xfast.world.writing import Form

SMALL = SyntheticConfig(users=80, posts=500, impressions=3_000, days=1.5)


@pytest.fixture(scope="module")
def world() -> World:
    """The demo's world."""
    return generate(seed=1)


def test_same_seed_same_bytes() -> None:
    first, again, other = generate(SMALL, 5), generate(SMALL, 5), generate(SMALL, 6)
    assert first.events().to_bytes() == again.events().to_bytes()
    assert first.events().to_bytes() != other.events().to_bytes()


def test_parts_have_their_own_streams() -> None:
    wordy = SyntheticConfig(users=80, posts=900, impressions=3_000, days=1.5)
    assert generate(SMALL, 5).users.screen_name == generate(wordy, 5).users.screen_name


def test_events_hold_the_tables(world: World) -> None:
    events = world.events()
    counts = events.counts()
    assert counts["post"] == len(world.posts) == 6_000 and counts["profile"] == len(world.users) == 600
    assert counts["impression"] == len(world.views) and 120_000 < len(world.views) <= 150_000
    assert set(counts) >= {
        *("delete", "follow", "block", "mute", "mute_keyword", "subscribe", "follow_topic", "engagement", "label"),
        "account",
    }
    assert np.all(np.diff(events.time_ms) >= 0) and np.unique(events.event_id).size == len(events)
    posts = events.columns("post")
    assert np.array_equal(snowflake_time_ms(posts["post_id"]), posts["created_at_ms"])
    assert np.array_equal(posts["post_id"], world.posts.post_id)


def test_interactions_are_the_views(world: World) -> None:
    rows = world.interactions()
    shown = rows.take(rows.shown)
    order = np.lexsort((shown.post_id, shown.user_id))
    views = world.views
    mine = np.lexsort((world.posts.post_id[views.post], world.users.user_id[views.user]))
    assert np.array_equal(shown.actions[order], views.actions()[mine])
    assert np.array_equal(shown.dwell_ms[order] > 0, (views.outcome[:, [10, 19]].any(axis=1))[mine])
    assert np.array_equal(shown.click_dwell_ms[order], views.click_dwell_ms[mine])
    # What is not an impression is a reply, a repost or a quote that somebody wrote.
    assert set(rows.actions[~rows.shown].tolist()) == {1 << 4, 1 << 5, 1 << 6}
    assert (~rows.shown).sum() == (world.posts.form != Form.ORIGINAL).sum()


def test_outcomes_follow_the_truth(world: World) -> None:
    """For each action: as many as the probabilities promise, in total and from the least to the most probable tenth."""
    views = world.views
    chance = world.truth.probabilities(views.user, views.post, views.time_ms)
    assert chance.min() >= 0 and chance.max() < 1
    for column, name in enumerate(HEADS):
        order = np.argsort(chance[:, column], kind="stable")
        for part in (order, *np.array_split(order, 10)):
            expected = chance[part, column].sum(dtype=float)
            spread = np.sqrt((chance[part, column] * (1 - chance[part, column])).sum(dtype=float))
            found = views.outcome[part, column].sum()
            # Impressions that follow a block or mute are taken out, which costs a little of the likeliest of those.
            assert abs(found - expected) < 4.5 * spread + 6 + 0.01 * expected, (name, found, expected)


def test_exclusive_outcomes(world: World) -> None:
    outcome = world.views.outcome
    column = {name: index for index, name in enumerate(HEADS)}
    assert not (outcome[:, column["dwell"]] & outcome[:, column["not_dwelled"]]).any()
    passive = ~outcome[:, column["dwell"]]
    assert not outcome[passive][:, [column["favorite"], column["click"], column["vqv"]]].any()
    medium = world.posts.medium[world.posts.content[world.views.post]]
    assert set(np.unique(medium[outcome[:, column["vqv"]]])) == {2}
    assert set(np.unique(medium[outcome[:, column["photo_expand"]]])) == {1}
    assert (world.views.click_dwell_ms > 0).sum() == outcome[:, column["click"]].sum()


def test_rates_are_those_of_a_feed(world: World) -> None:
    rate = dict(zip(HEADS, world.views.outcome.mean(axis=0).tolist()))
    assert all(value > 0 for value in rate.values())
    assert 0.3 < rate["dwell"] < 0.7 and 0.05 < rate["favorite"] < 0.25 and 0.02 < rate["retweet"] < 0.1
    assert rate["favorite"] > rate["retweet"] > rate["reply"] > rate["quote"]
    assert rate["not_interested"] < 0.03 and rate["report"] < rate["mute_author"] < 0.01
    silent = (world.views.actions() & ~np.uint64(1 << 12)) == 0
    assert 0.3 < silent.mean() < 0.7  # impressions without a positive action: the negatives that training needs


def test_nobody_sees_what_is_not_there(world: World) -> None:
    posts, views, users = world.posts, world.views, world.users
    content = posts.content[views.post]
    assert (posts.created_ms[views.post] < views.time_ms).all()
    deleted = posts.deleted_ms[content]
    assert ((deleted == 0) | (deleted > views.time_ms)).all() and (posts.deleted_ms > 0).any()
    assert (posts.author[views.post] != views.user).all() and (posts.author[content] != views.user).all()
    assert np.unique(views.user * len(posts) + content).size == len(views)
    hidden = users.protected[posts.author[content]]
    assert world.follows.follows(views.user[hidden], posts.author[content][hidden]).all()
    paid = posts.exclusive[content]
    assert paid.any() and world.follows.subscribes(views.user[paid], posts.author[content][paid]).all()
    assert not world.mutes.topics[views.user, posts.topic[content]].any() and world.mutes.topics.any()
    column = [HEADS.index("block_author"), HEADS.index("mute_author")]
    out = np.flatnonzero(views.outcome[:, column].any(axis=1))
    for row in out[:50]:
        same = (views.user == views.user[row]) & (posts.author[content] == posts.author[content][row])
        assert not (same & (views.time_ms > views.time_ms[row])).any()


def test_threads_hold_together(world: World) -> None:
    posts = world.posts
    derived = np.flatnonzero(posts.form != Form.ORIGINAL)
    parent = posts.parent[derived]
    assert (posts.created_ms[parent] <= posts.created_ms[derived]).all() and (parent < derived).all()
    assert (posts.form[parent] != Form.REPOST).all()
    assert np.array_equal(posts.topic[parent], posts.topic[derived])
    replies = derived[posts.form[derived] == Form.REPLY]
    assert np.array_equal(posts.root[replies], posts.root[posts.parent[replies]])
    assert (posts.root[replies] != posts.parent[replies]).any()  # some answer an answer
    shares = np.bincount(posts.form, minlength=4) / len(posts)
    assert np.allclose(shares, [0.64, 0.18, 0.11, 0.07], atol=0.04)


def test_the_graph_is_that_of_a_social_network(world: World) -> None:
    follows, users = world.follows, world.users
    fans = np.sort(np.bincount(follows.target, minlength=len(users)))[::-1]
    followed = np.bincount(follows.source, minlength=len(users))
    assert fans[:60].sum() > 0.28 * fans.sum()  # the top tenth
    assert fans[0] > 6 * np.median(fans) and 12 < followed.mean() < 30
    assert (follows.source != follows.target).all() and (np.diff(follows.keys) > 0).all()
    same = users.community[follows.source] == users.community[follows.target]
    rng = np.random.default_rng(0)
    by_chance = (users.community[rng.permutation(follows.source)] == users.community[follows.target]).mean()
    assert same.mean() > 3 * by_chance  # homophily
    back = follows.follows(follows.target, follows.source).mean()
    assert 0.1 < back < 0.6
    assert (follows.since_ms < world.config.start_ms).all()


def test_authors_are_zipfian_and_keep_to_their_interests(world: World) -> None:
    written = np.sort(np.bincount(world.posts.author, minlength=len(world.users)))[::-1]
    assert written[:60].sum() > 0.25 * written.sum() and written[0] < 0.1 * written.sum()
    original = world.posts.form == Form.ORIGINAL
    interest = world.users.interest[world.posts.author[original], world.posts.topic[original]]
    assert interest.mean() > world.users.interest.mean() + 1


def test_people_engage_with_what_they_care_for(world: World) -> None:
    posts, views, users = world.posts, world.views, world.users
    content = posts.content[views.post]
    liked = views.outcome[:, HEADS.index("favorite")]
    blind = views.explored  # picked without regard to what they like
    reads = users.reads[views.user, posts.language[content]]
    assert (~reads & blind).sum() > 100
    assert liked[blind & reads].mean() > 3 * liked[blind & ~reads].mean()
    followed = world.follows.follows(views.user, posts.author[views.post])
    assert liked[followed].mean() > liked[~followed].mean()
    interest = users.interest[views.user, posts.topic[content]]
    assert liked[blind & (interest > 1)].mean() > 2 * liked[blind & (interest < 0)].mean()
    assert 0.2 < followed.mean() < 0.6
    assert views.dwell_ms[liked].mean() > 2 * views.dwell_ms[~liked].mean()


def test_pages_are_pages(world: World) -> None:
    views = world.views
    order = np.lexsort((views.position, views.request_id))
    first = np.r_[True, np.diff(views.request_id[order]) != 0]
    assert np.array_equal(views.position[order] == 0, first)
    assert views.position.max() < world.config.page_size
    begin = snowflake_time_ms(views.request_id)
    assert ((views.time_ms > begin) & (views.time_ms < begin + 60_000)).all()


def test_days_have_evenings(world: World) -> None:
    ja = world.config.languages.index("ja")
    written = world.posts.created_ms[world.users.language[world.posts.author] == ja]
    hours = np.bincount((written // 3_600_000 + 9) % 24, minlength=24)  # in Tokyo
    assert hours[17:23].mean() > 2 * hours[2:8].mean()


def test_posts_read_like_posts(world: World) -> None:
    texts = world.posts.text
    assert all(text and len(text) <= 280 and "{" not in text and "  " not in text for text in texts)
    original = [row for row in range(len(texts)) if world.posts.form[row] == Form.ORIGINAL]
    assert len({texts[row] for row in original}) > 0.75 * len(original)
    for code, script in (
        ("ja", r"[\u3040-\u30ff]"),
        ("ar", r"[\u0600-\u06ff]"),
        ("de", r"\b(und|der|das|von|ein|nach)\b"),
        ("es", r"\b(el|la|de|que|y)\b"),
    ):
        here = [texts[row] for row in original if world.posts.language[row] == world.config.languages.index(code)]
        assert sum(bool(re.search(script, text)) for text in here) > 0.3 * len(here), code
    assert sum("#" in texts[row] for row in original) > 0.3 * len(original)
    handles = set(world.users.screen_name)
    assert len(handles) == len(world.users)
    replies = [texts[row] for row in range(len(texts)) if world.posts.form[row] == Form.REPLY]
    assert all(re.match(r"@(\w+) ", text)[1] in handles for text in replies)  # type: ignore[index]
    assert all(re.fullmatch(r"[a-z0-9_]{3,20}", handle) for handle in handles)


def test_labels_let_ads_appear(world: World) -> None:
    """Nearly every post carries the labels that make it safe, a few others the ones that do not (HOME_MIXER §10)."""
    posts = world.posts
    labelled = np.zeros((3, len(posts)), bool)
    for index, name in enumerate(("GROK_SFA", "PTOS_REVIEWED", "GROK_NSFA_LIMITED")):
        labelled[index, posts.label_row[posts.label_name == name]] = True
    own = posts.form != Form.REPOST
    assert 0.75 < (labelled[0] & labelled[1])[own].mean() < 0.97 and labelled[2].any()
    assert not (labelled[0] & labelled[2]).any() and not labelled[:, ~own].any()
    assert "NSFW_TEXT" in set(posts.label_name.tolist())
    assert int(posts.post_id[0]) > 2_054_275_414_225_846_272


def test_the_vocabulary_is_complete() -> None:
    assert len(topics()) == 12 and len({topic.id for topic in topics()}) == 12
    assert sum(language(code).share for code in LANGUAGES) == pytest.approx(1.0)
    for code in LANGUAGES:
        words = language(code)
        assert all(len(entries) >= 4 for entries in words.sentences) and all(
            len(entries) >= 3 for entries in words.tags
        )
        for entries in (*words.sentences, words.openers):
            for text in entries:
                assert text.format(name="x", n=2)
        assert all(tag.startswith("#") and " " not in tag for tags in words.tags for tag in tags)
    with pytest.raises(ParameterError, match="language is 'xx', must be one of en"):
        language("xx")


def test_topics_are_the_public_ones(shared: Path) -> None:
    import json

    known = json.loads((shared / "spec" / "topics.json").read_text())["ids"]
    assert {topic.name: topic.id for topic in topics()} == {topic.name: known[topic.name] for topic in topics()}


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"users": 3}, r"users is 3, must be in \[20, 4000000\]"),
        ({"users": 50.0}, "users is 50.0, must be an integer"),
        ({"days": 0.0}, "days is 0.0"),
        ({"exploration": 1.5}, "exploration is 1.5"),
        ({"languages": ("en", "en")}, "at most once"),
        ({"languages": ("en", "tlh")}, "languages holds 'tlh', must be among en"),
        ({"languages": ()}, "one at least"),
    ],
)
def test_wrong_configurations_are_refused(values: dict[str, object], text: str) -> None:
    with pytest.raises(ParameterError, match=text):
        SyntheticConfig(**values)  # type: ignore[arg-type]


def test_wrong_seeds_and_ids_are_refused(world: World) -> None:
    for seed in (-1, 0.5, True):
        with pytest.raises(ParameterError, match="must be an integer of at least 0"):
            generate(SMALL, seed)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="user_ids holds 1, which is no user"):
        world.truth.rows([1], [1])


@pytest.mark.parametrize(
    "config",
    [
        SyntheticConfig(users=20, posts=50, impressions=0, days=0.1),
        SyntheticConfig(users=20, posts=50, impressions=400, days=0.5, languages=("ja",), communities=1),
        SyntheticConfig(users=300, posts=400, impressions=1_000, follows_per_user=0.1, exploration=1.0, page_size=1),
    ],
)
def test_small_and_odd_sizes(config: SyntheticConfig) -> None:
    world = generate(config, 3)
    assert len(world.posts) == config.posts and len(world.views) <= config.impressions
    assert len(world.interactions()) >= len(world.views)


def test_saved_worlds(tmp_path: Path) -> None:
    world = generate(SMALL, 5)
    world.save(tmp_path / "w")
    assert sorted(path.name for path in (tmp_path / "w").iterdir()) == ["config.json", "events.parquet", "truth.npz"]
    with np.load(tmp_path / "w" / "truth.npz") as arrays:
        assert np.array_equal(arrays["users_interest"], world.users.interest)
        assert np.array_equal(arrays["views_outcome"], world.views.outcome)
    assert to_arrow(world.events())["kind"].to_pylist().count(Kind.POST.label) == 500
