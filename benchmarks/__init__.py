"""asv suites: one module per room, rivals beside each hot operation, quality tracked beside time."""
