"""Deep Q-learning itself: transitions, memories, networks, learner, agent and the loop."""
