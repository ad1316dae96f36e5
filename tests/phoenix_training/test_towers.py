"""What is trained is what is served: scores of the training passes equal those of the public classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from xfast.phoenix import Candidates, Engagements, PhoenixConfig, Ranker, Retriever
from xfast.phoenix.artifacts import Tower
from xfast.phoenix.training import Sequences, TrainConfig
from xfast.phoenix.training.initialise import fresh_tower
from xfast.phoenix.training.scoring import RankerScorer, RetrievalScorer, corpus_of


def engagements(sequences: Sequences, row: int, columns: int) -> Engagements:
    user = int(sequences.user[row])
    own = np.arange(sequences.offsets[user], sequences.offsets[user + 1])
    history = own[sequences.actions[own] != 0][: sequences.seen[row]]
    continuous = np.zeros((len(history), 8), np.float32)
    continuous[:, 1] = sequences.dwell_s[history]
    return Engagements(
        int(sequences.users[user]),
        sequences.posts[sequences.post[history]],
        sequences.authors[sequences.post_author[sequences.post[history]]],
        sequences.action_matrix(history, columns),
        product_surface=sequences.surface[history],
        continuous=continuous,
    )


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_retrieval_scores_equal_the_retriever(
    sequences: Sequences, retrieval_config: PhoenixConfig, run: TrainConfig, attention: str
) -> None:
    tower = fresh_tower("retrieval", retrieval_config.replace(context_attention=attention, num_layers=2), run, 0)
    rows = np.linspace(0, len(sequences) - 1, 12).astype(np.int64)
    ours = RetrievalScorer(sequences, tower, batch_size=16).scores_of_rows(rows)
    corpus = corpus_of(sequences, tower)
    retriever = Retriever(tower, corpus)
    for row, scores in zip(rows, ours):
        user = retriever.encode(engagements(sequences, row, tower.config.num_actions), keep="newest")
        np.testing.assert_allclose(scores, corpus.representations @ user, atol=2e-5)


def test_ranker_scores_equal_the_ranker(sequences: Sequences, ranker_config: PhoenixConfig, run: TrainConfig) -> None:
    tower = fresh_tower("ranker", ranker_config.replace(num_layers=2, num_kv_heads=1), run, 0)
    rows = np.linspace(0, len(sequences) - 1, 12).astype(np.int64)
    logits, continuous = RankerScorer(sequences, tower, batch_size=16).logits_of_rows(rows)
    ranker = Ranker(tower)
    for i, row in enumerate(rows):
        post = sequences.post[row]
        context = ranker.encode(engagements(sequences, row, tower.config.num_actions), keep="newest")
        scores = ranker.score(
            context,
            Candidates(
                sequences.posts[[post]],
                sequences.authors[sequences.post_author[[post]]],
                product_surface=sequences.surface[[row]],
                impression_ts=sequences.time_s[[row]],
                created_ts=sequences.created_s[[post]],
            ),
        )
        np.testing.assert_allclose(logits[i], scores.logits[0], atol=2e-5)
        np.testing.assert_allclose(continuous[i], scores.continuous[0], atol=2e-5)


def test_fresh_towers_are_not_constant(sequences: Sequences, ranker_config: PhoenixConfig, run: TrainConfig) -> None:
    tower = fresh_tower("ranker", ranker_config, run, 0)
    again = fresh_tower("ranker", ranker_config, run, 0)
    other = fresh_tower("ranker", ranker_config, run, 1)
    assert all(np.array_equal(tower.params[key], again.params[key]) for key in tower.params)
    assert not np.array_equal(tower.tables.item, other.tables.item)
    logits, _ = RankerScorer(sequences, tower, batch_size=16).logits_of_rows(np.arange(16))
    assert 0.01 < logits[:, 1].std() < 1
    assert not tower.tables.item[0].any()


def test_own_shape_is_checked(ranker_config: PhoenixConfig, run: TrainConfig) -> None:
    tower = fresh_tower("ranker", ranker_config, run, 0)
    with pytest.raises(Exception, match="has shape"):
        Tower("ranker", ranker_config.replace(emb_size=8), tower.params, tower.tables)
    assert replace(tower).config == ranker_config
