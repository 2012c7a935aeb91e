"""What the agent remembers: steps go in, minibatches of transitions come out."""
