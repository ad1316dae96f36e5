"""Bradley-Terry learning of several stakeholders' weights, when more data hurts someone, and the audit that says so."""
