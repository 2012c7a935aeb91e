"""Training an agent in an environment, evaluating and filming it, and what listens to a training."""
