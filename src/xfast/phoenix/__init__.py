"""Phoenix: two-tower retrieval and the transformer ranker with candidate isolation."""
