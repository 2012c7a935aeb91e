"""The networks: states in, one Q-value an action out; and the same forward pass in NumPy, for acting."""
