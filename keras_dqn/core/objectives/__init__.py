"""What the outputs of a network mean, what they are moved towards, and how far off they are."""
