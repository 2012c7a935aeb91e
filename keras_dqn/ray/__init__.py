"""One machine or many, on Ray (`pip install "keras_dqn[ray]"`): trainings from many seeds, games of one training.

`cluster` finds or starts Ray, `sweeps` runs trainings wherever there is room. Nothing here imports Ray before it is
asked for, and nothing outside knows of it but the argument `ray`.
"""
