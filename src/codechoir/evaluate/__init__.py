"""The evaluate stage: completions and log-likelihoods in, verdicts and scores out. Needs no model."""
