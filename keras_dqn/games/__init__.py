"""The games: an environment, its recipes and what counts as solved."""
