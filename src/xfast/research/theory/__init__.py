"""What can be said in closed form, before anything is trained.

`covariance` (who gains), `threshold` (where a platform's sign flips), `tangent` (direction drift against norm growth),
`identifiability` (what pairs can tell), `robustness` (how wrong weights may be), `boundary` (why a top-K reverses).
"""
