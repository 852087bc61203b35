"""Ways to come to an MoE, at equal tokens: how long a trunk, which weights, which routing, tuned whole or not."""
