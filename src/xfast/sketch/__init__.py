"""Small summaries of large sets: MinHash of follow lists, Bloom filters of impressions."""

from xfast.sketch.bloom import BloomFilter, BloomScheme, contains_any, register_scheme
from xfast.sketch.minhash import MinHash, jaccard, jaccard_column, signatures

__all__ = [
    "BloomFilter",
    "BloomScheme",
    "MinHash",
    "contains_any",
    "jaccard",
    "jaccard_column",
    "register_scheme",
    "signatures",
]
