"""Scorers: the model's predictions, the ranking formula and its public parts, the value model (HOME_MIXER §8)."""

from xfast.mixer.scorers.author_diversity_scorer import AuthorDiversityScorer, diversity_multipliers
from xfast.mixer.scorers.dpp import greedy_dpp
from xfast.mixer.scorers.oon_scorer import OONScorer, oon_factor
from xfast.mixer.scorers.phoenix_scorer import PhoenixScorer, decode_heads, resolve_ranker_cluster
from xfast.mixer.scorers.ranking_scorer import RankingScorer
from xfast.mixer.scorers.vm_ranker import DppValueModel, VMRanker, merge_scores
from xfast.mixer.scorers.weighted_scorer import WeightedScorer, combined_scores, offset_scores

__all__ = [
    "AuthorDiversityScorer",
    "DppValueModel",
    "OONScorer",
    "PhoenixScorer",
    "RankingScorer",
    "VMRanker",
    "WeightedScorer",
    "combined_scores",
    "decode_heads",
    "diversity_multipliers",
    "greedy_dpp",
    "merge_scores",
    "offset_scores",
    "oon_factor",
    "resolve_ranker_cluster",
]
