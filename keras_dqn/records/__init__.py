"""What is kept: weight files, histories, evaluations and checkpoints; each whole or not at all."""
