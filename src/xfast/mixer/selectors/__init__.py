"""Selectors: the best posts by score, and the blender that assembles the feed (HOME_MIXER §9, §11)."""

from xfast.mixer.selectors.blender import Assembled, BlenderSelector
from xfast.mixer.selectors.top_k_score import TopKScoreSelector

__all__ = ["Assembled", "BlenderSelector", "TopKScoreSelector"]
