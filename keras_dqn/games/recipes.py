"""What the games' own recipes have in common; each game's file holds only its differences."""

BEST = {  # the learner of every recipe "best": double DQN on n-step returns, one update of 128 every step
    "network": {"hidden": (128, 128)},
    "memory_size": 50_000,
    "sample_batch_size": 128,
    "minibatch_size": 128,
    "replay_every": 1,
    "gamma": 0.99,
    "double": True,
    "target_update": 1,
    "tau": 0.01,
    "n_step": 3,
}
