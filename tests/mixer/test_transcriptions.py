"""Rules of HOME_MIXER written out as plainly as the text has them, against the shipped components on random input."""

from __future__ import annotations

import math
import operator
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mixer.world import NOW_MS, post_id
from xfast.mixer.ads import PartitionOrganic, SafeGap, candidate_brand_safety
from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import AdInfo, PostLabel
from xfast.mixer.enums import BrandSafetyVerdict as Verdict
from xfast.mixer.enums import SafetyLabelType
from xfast.mixer.filters import TopicIdsFilter
from xfast.mixer.heads import HEADS
from xfast.mixer.hydrators.tweet_type_metrics import tweet_type_flags
from xfast.mixer.items import ScoredPost
from xfast.mixer.params import CONTINUOUS_WEIGHTS, NEGATIVE_WEIGHTS, POSITIVE_WEIGHTS, Params
from xfast.mixer.query import ScoredPostsQuery, UserFeatures
from xfast.mixer.scorers import RankingScorer, greedy_dpp
from xfast.mixer.scorers.author_diversity_scorer import diversity_multipliers
from xfast.mixer.topics import all_production_topics, category, supertopic

PROBABILITY = st.one_of(st.none(), st.floats(0, 1))
VIDEO = st.one_of(st.none(), st.sampled_from([0, 9_999, 10_000, 10_001, 60_000, 60_001]))


# -- §8.2 -------------------------------------------------------------------------------------------------------------

CANDIDATE = st.fixed_dictionaries(
    {
        "author_id": st.integers(0, 3),
        "phoenix_scores": st.fixed_dictionaries({}, optional=dict.fromkeys(HEADS, PROBABILITY)),
    },
    optional={"in_network": st.booleans(), "min_video_duration_ms": VIDEO, "quoted_video_duration_ms": VIDEO},
)


@given(
    st.lists(CANDIDATE, min_size=1, max_size=6),
    st.one_of(st.none(), st.sampled_from([0, 9_999, 10_000])),
    st.booleans(),
    st.booleans(),
    st.integers(0, 6),
    st.sampled_from([0, 3_600]),
)
def test_ranking(
    candidates: list[dict[str, Any]], followers: int | None, check: bool, topics: bool, follows: int, new_age: int
) -> None:
    overrides = {"EnableQuotedVqvDurationCheck": check, "QuotedVqvWeight": 0.7, "NewUserAgeThresholdSecs": new_age}
    params = Params().override(overrides)
    query = ScoredPostsQuery(
        user_id=post_id(1_800_000), request_time_ms=NOW_MS, params=params, follower_count=followers
    )
    query.user_features = UserFeatures(followed_user_ids=np.arange(follows, dtype=np.uint64))
    query.topic_ids = [5] if topics else []
    weights = {
        name.removesuffix("_weight").removeprefix("cont_"): getattr(params, name)
        for name in (*POSITIVE_WEIGHTS, *NEGATIVE_WEIGHTS)
    } | {name.removesuffix("_weight").removeprefix("cont_"): getattr(params, name) for name in CONTINUOUS_WEIGHTS}
    negative = -reduce(operator.add, (getattr(params, name) for name in NEGATIVE_WEIGHTS))
    total = reduce(operator.add, (getattr(params, name) for name in POSITIVE_WEIGHTS)) + negative

    weighted = []
    for candidate in candidates:
        combined = 0.0
        for head, weight in weights.items():
            duration = candidate.get("min_video_duration_ms")
            if head == "vqv" and ((followers or 0) >= 10_000 or duration is None or duration <= 10_000):
                weight = 0.0
            quoted = candidate.get("quoted_video_duration_ms")
            if head == "quoted_vqv" and check and (quoted is None or quoted <= 10_000):
                weight = 0.0
            combined += weight * (candidate["phoenix_scores"].get(head) or 0.0)
        weighted.append((combined + negative) / total * 0.001 if combined < 0 else combined + 0.001)
    if topics:
        outside = 0.5
    elif new_age and follows >= 5:
        outside = 0.00001  # the account is half an hour old
    else:
        outside = 0.75
    scores, seen = [0.0] * len(candidates), dict[int, int]()
    for row in sorted(range(len(candidates)), key=lambda row: -weighted[row]):
        author = candidates[row]["author_id"]
        scores[row] = weighted[row] * (0.75 * 0.5 ** seen.get(author, 0) + 0.25)
        scores[row] *= outside if candidates[row].get("in_network") is False else 1.0
        seen[author] = seen.get(author, 0) + 1

    batch = CandidateBatch.from_records([{"tweet_id": row + 1, **c} for row, c in enumerate(candidates)])
    result = RankingScorer("reference").score(query, batch)
    # To the bit, in the order of heads: where terms cancel, one rounding decides the branch of the offset.
    assert result.columns["weighted_score"].tolist() == weighted
    assert result.columns["score"] == pytest.approx(scores, rel=1e-9, abs=1e-15)


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0, 2.0, math.nan]), st.integers(0, 2)), max_size=8))
def test_diversity_orders_all_rows_and_nan_equals_everything(rows: list[tuple[float, int]]) -> None:
    """Insertion, which leaves a row where it is unless it is greater than the one before: NaN keeps others apart."""
    order: list[int] = []
    for row, (score, _) in enumerate(rows):
        place = len(order)
        while place and score > rows[order[place - 1]][0]:
            place -= 1
        order.insert(place, row)
    expected, seen = [0.0] * len(rows), dict[int, int]()
    for row in order:
        author = rows[row][1]
        expected[row] = 0.75 * 0.5 ** seen.get(author, 0) + 0.25
        seen[author] = seen.get(author, 0) + 1
    scores = np.array([score for score, _ in rows], np.float64)
    authors = np.array([author for _, author in rows], np.uint64)
    assert diversity_multipliers(scores, authors, decay=0.5, floor=0.25).tolist() == expected


def test_a_nan_of_another_author_keeps_two_posts_in_row_order() -> None:
    """Per author the second post would be the first: the order of all rows decides."""
    multipliers = diversity_multipliers([1, math.nan, 2], np.array([7, 8, 7], np.uint64), decay=0.5, floor=0)
    assert multipliers.tolist() == [1, 1, 0.5]


# -- §7.13 ------------------------------------------------------------------------------------------------------------

SOME_TOPICS = [t for t in sorted(all_production_topics()) if category(t) is None][:4] + [
    t for t in sorted(all_production_topics()) if supertopic(t) != t
][:4]
CATEGORIES = [t for t in (supertopic(t) for t in SOME_TOPICS) if category(t)][:3]
TOPIC = st.sampled_from([*SOME_TOPICS, *CATEGORIES, 987_654_321])
TOPICS = st.lists(TOPIC, max_size=3)


def expanded(topics: list[int]) -> set[int]:
    return {member for topic in topics for member in (category(topic) or [topic])}


@given(
    st.lists(st.tuples(st.one_of(st.none(), TOPICS), st.one_of(st.none(), TOPICS)), max_size=6),
    st.lists(TOPIC, max_size=9),
    TOPICS,
)
def test_topic_ids(labels: list[tuple[Any, Any]], requested: list[int], excluded: list[int]) -> None:
    query = ScoredPostsQuery(user_id=1, topic_ids=requested, excluded_topic_ids=excluded)
    if not requested and not excluded:
        assert not TopicIdsFilter("reference").enable(query)
        return
    expected = []
    for row, (filtered, unfiltered) in enumerate(labels):
        own, all_labels = set(filtered or ()), set(unfiltered or ())
        keep = True
        if len(requested) > 6:
            keep = not own or not own <= set(all_production_topics()) - expanded(requested)
        elif requested:
            keep = any(
                own & expanded([t]) or (all_labels & expanded([t]) and own & expanded([supertopic(t)]))
                for t in requested
            )
        if excluded:
            keep = keep and bool(own) and not own & (expanded(excluded) | set(excluded))
        if keep:
            expected.append(row)
    records = [
        {"tweet_id": row + 1, "filtered_topic_ids": f or None, "unfiltered_topic_ids": u or None}
        for row, (f, u) in enumerate(labels)
    ]
    batch = CandidateBatch.from_records(records)
    assert np.flatnonzero(TopicIdsFilter("reference").keep(query, batch)).tolist() == expected


# -- §10 --------------------------------------------------------------------------------------------------------------

WORDS = ["ice cream", "bitcoin", "park", ""]
POSTS = st.lists(
    st.builds(
        lambda verdict, author, text, score: ScoredPost(
            0, author_id=author, tweet_text=text, score=score, brand_safety_verdict=verdict
        ),
        st.sampled_from([Verdict.SAFE, Verdict.SAFE, Verdict.LOW_RISK, Verdict.MEDIUM_RISK]),
        st.integers(0, 4),
        st.sampled_from(WORDS),
        st.sampled_from([0.0, 0.5, 1.0, -1.0]),
    ),
    max_size=14,
).map(lambda posts: [ScoredPost(**{**fields_of(post), "tweet_id": 100 + row}) for row, post in enumerate(posts)])
ADS = st.lists(
    st.builds(
        lambda place, risk, handles, words: AdInfo(
            0, insert_position=place, risk=risk, handles=handles, keywords=words
        ),
        st.integers(-1, 20),
        st.sampled_from(["BsrUnknown", "BsrNormal", "BsrLow", "BsrIas"]),
        st.lists(st.integers(0, 4), max_size=1).map(tuple),
        st.lists(st.sampled_from(WORDS), max_size=1).map(tuple),
    ),
    max_size=5,
).map(lambda ads: [AdInfo(**{**fields_of(ad), "post_id": 900 + row}) for row, ad in enumerate(ads)])


def fields_of(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def spacing(ads: list[AdInfo]) -> tuple[int, int]:
    places = sorted(ad.insert_position for ad in ads[:4])
    steps = [b - a for a, b in pairwise(places) if b > a]
    smallest = min(steps, default=0)
    return (smallest, math.ceil(smallest / 2)) if smallest >= 3 else (3, 2)


def trimmed(mixed: list[Any], size: int) -> list[int]:
    mixed = mixed[:size]
    if mixed and isinstance(mixed[-1], AdInfo):
        mixed = mixed[:-1]
    return [item.post_id if isinstance(item, AdInfo) else item.tweet_id for item in mixed]


def shown(blender: Any, posts: list[ScoredPost], ads: list[AdInfo]) -> list[int]:
    items = blender.blend(posts, ads)
    assert [item.position for item in items] == list(range(len(items)))
    return [i.item.post_id if isinstance(i.item, AdInfo) else i.item.tweet_id for i in items]


@given(POSTS, ADS, st.sampled_from([4, 9, 35]))
def test_safe_gap(posts: list[ScoredPost], ads: list[AdInfo], size: int) -> None:
    mixed: list[Any] = list(posts)
    if ads and len(posts) >= 5:
        avoided = [post.brand_safety_verdict == Verdict.MEDIUM_RISK for post in posts]
        gaps = [g for g in range(1, len(posts)) if not avoided[g - 1] and not avoided[g]]
        requested, least = spacing(ads)
        ideal, minimum, placed = max(0, ads[0].insert_position), 1, []
        for _ in ads:
            allowed = [g for g in gaps if g >= minimum and g > (placed[-1] if placed else 0)]
            if not allowed:
                break
            placed.append(min(allowed, key=lambda g: (abs(g - ideal), g)))
            minimum = max(ideal + least, placed[-1] + 2)
            ideal += requested
        for gap, ad in reversed(list(zip(placed, ads, strict=False))):
            mixed.insert(gap, ad)
        expected = trimmed(mixed, size)
    else:
        expected = [post.tweet_id for post in posts]
    assert shown(SafeGap(size, 5, "reference"), posts, ads) == expected


@given(POSTS, ADS, st.sampled_from([4, 9, 35]))
def test_partition_organic(posts: list[ScoredPost], ads: list[AdInfo], size: int) -> None:
    if not ads or len(posts) < 5:
        assert shown(PartitionOrganic(size, 5, "reference"), posts, ads) == [post.tweet_id for post in posts]
        return
    safe = [p for p in posts if p.brand_safety_verdict != Verdict.MEDIUM_RISK]
    unsafe = [p for p in posts if p.brand_safety_verdict == Verdict.MEDIUM_RISK]
    slots = min(len(ads), (len(posts) - 1) // spacing(ads)[0], len(safe) // 2)
    mixed: list[Any] = list(posts)
    if slots:
        group, triples = len(safe) // slots, []
        for ad in ads:
            if len(triples) == slots:
                break
            above, below = safe[len(triples) * group], safe[len(triples) * group + 1]
            near = (above, below)
            careful = ad.risk in ("BsrLow", "BsrIas")
            if careful and any(p.brand_safety_verdict == Verdict.LOW_RISK for p in near):
                continue
            if any(p.author_id in ad.handles for p in near):
                continue
            if any(word and word == p.tweet_text for word in ad.keywords for p in near):
                continue
            triples.append([above, ad, below])
        used = {id(p) for above, _, below in triples for p in (above, below)}
        filler = sorted((p for p in [*safe, *unsafe] if id(p) not in used), key=lambda p: -p.score)
        mixed = []
        if not triples:
            mixed = filler
        else:
            share, longer = divmod(len(filler), len(triples))
            for index, triple in enumerate(triples):
                take = share + (1 if index >= len(triples) - longer else 0)
                mixed += triple + filler[:take]
                filler = filler[take:]
    assert shown(PartitionOrganic(size, 5, "reference"), posts, ads) == trimmed(mixed, size)


LABELS = st.lists(st.sampled_from([*SafetyLabelType.__members__, "SOMETHING_NEW"]), max_size=4)


@given(st.sampled_from([5, 2_054_275_414_225_846_271, 2_054_275_414_225_846_272]), LABELS, st.one_of(st.none(), LABELS))
def test_brand_safety(post: int, own: list[str], quoted: list[str] | None) -> None:
    def verdict(labels: list[str], number: int) -> int:
        low = {"NSFA_LIMITED_INVENTORY", "GROK_NSFA_LIMITED", "NSFA_HIGH_RECALL"}
        fine = low | {"GROK_SFA", "PTOS_REVIEWED", "SOMETHING_NEW"}
        if set(labels) - fine or not set(labels) & {"GROK_SFA", "GROK_NSFA_LIMITED"}:
            return 3
        if number >= 2_054_275_414_225_846_272 and "PTOS_REVIEWED" not in labels:
            return 3
        return 2 if set(labels) & low else 1

    table = {post: [PostLabel(name) for name in own], 6: [PostLabel(name) for name in quoted or ()]}
    got, labels = candidate_brand_safety(post, None if quoted is None else 6, table)
    assert int(got) == max(verdict(own, post), 0 if quoted is None else verdict(quoted, 6))
    assert {label.label_type for label in labels} == {*own, *(quoted or ())}
    numbers = [SafetyLabelType.__members__.get(label.label_type, 1_000) for label in labels]
    assert numbers == sorted(numbers)


# -- §6, §8.3 ---------------------------------------------------------------------------------------------------------

HOUR = 3_600_000


@given(
    st.sampled_from([-1, 0, HOUR // 2, HOUR // 2 + 1, HOUR, HOUR + 1, 6 * HOUR, 12 * HOUR, 12 * HOUR + 1, 24 * HOUR]),
    VIDEO,
    st.one_of(st.none(), st.sampled_from([-1, 0, 99, 100, 999, 1_000, 9_999, 10_000, 100_000, 999_999, 1_000_000])),
    st.sampled_from([0, 1, 2, 3, 4, 5, 9, 10, 19, 20]),
    st.sampled_from([None, 0.0, -0.5, 0.5]),
    st.sampled_from([None, True, False]),
)
def test_tweet_type(
    age: int, video: int | None, followers: int | None, served: int, score: float | None, inside: bool | None
) -> None:
    bits = {0}
    bits |= {5} if video is not None else set()
    bits |= set() if video is None else {151} if video <= 10_000 else {152} if video <= 60_000 else {153}
    bits |= {bit for bit, below in ((23, 3), (39, 20), (40, 10), (41, 5)) if served < below}
    bits |= {32} if served == 0 else set()
    bits |= {38} if score else set()
    bits |= {80} if inside is not False else set()
    bits |= {bit for bit, most in ((154, 0.5), (155, 1), (156, 6), (157, 12)) if 0 <= age <= most * HOUR}
    bits |= {158} if age >= 24 * HOUR else set()
    if followers is not None:
        unsigned = followers % 2**32
        bits.add(309 + sum(unsigned >= edge for edge in (100, 1_000, 10_000, 100_000, 1_000_000)))
    record = {
        "tweet_id": post_id(age), "min_video_duration_ms": video, "author_followers_count": followers,
        "score": score, "in_network": inside,
    }  # fmt: skip
    query = ScoredPostsQuery(user_id=1, request_time_ms=NOW_MS, served_ids=np.arange(served, dtype=np.uint64))
    got = tweet_type_flags(query, CandidateBatch.from_records([record]))
    assert set(np.flatnonzero(got[0]).tolist()) == bits


@given(st.integers(1, 7), st.integers(1, 8), st.sampled_from([0.0, 0.3, 0.65, 0.9]), st.integers(0, 1_000))
def test_dpp_picks_what_raises_the_determinant_most(count: int, top: int, theta: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, vectors = rng.uniform(0, 1, count), rng.standard_normal((count, 4))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    quality = np.exp(theta / (2 * (1 - theta)) * scores / max(scores.max(), 1e-6))
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, 1.0)
    kernel = quality[:, None] * cosines * quality[None, :]

    def gains(chosen: list[int]) -> dict[int, float]:
        before = float(np.linalg.det(kernel[np.ix_(chosen, chosen)])) if chosen else 1.0
        rest = [row for row in range(count) if row not in chosen]
        return {row: float(np.linalg.det(kernel[np.ix_([*chosen, row], [*chosen, row])])) / before for row in rest}

    picked = greedy_dpp(scores, vectors, theta=theta, top_k=top).tolist()
    for place, row in enumerate(picked):
        possible = gains(picked[:place])
        assert possible[row] >= max(possible.values()) * (1 - 1e-6) > 1e-6 * (1 - 1e-6)
    if len(picked) < min(top, count):
        assert max(gains(picked).values()) <= 2e-6
    if theta == 0:
        assert picked[0] == 0
