"""Trainings and games on Ray (`pip install "keras_dqn[ray]"`), which nothing here imports before it is asked for."""
