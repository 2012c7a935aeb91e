"""What the tests of Ray run on other nodes: calls that need no TensorFlow, and a game with a fault."""

import os
import signal
import time
from pathlib import Path


def names_itself(number):
    """Return its number, its process and where it ran."""
    import ray

    return number, os.getpid(), ray.get_runtime_context().get_node_id()


def raises():
    """Raise."""
    raise ValueError("a game\nthat is broken")


def dies(marker, times):
    """Kill the process that it runs in, so many times; then return how often it has begun."""
    begun = len(marker.read_text()) if marker.exists() else 0
    marker.write_text("x" * (begun + 1))
    if begun < times:
        os.kill(os.getpid(), signal.SIGKILL)
    return begun + 1


def stays(folder, head, number):
    """Wait for the end, the first time, unless on the head node; then return where it ran."""
    import ray

    node, begun = ray.get_runtime_context().get_node_id(), Path(folder, f"begun_{number}")
    if node != head and not begun.exists():
        begun.write_text(node)
        time.sleep(600)
    return node


def make_faulty(marker):
    """CartPole, of which the training of seed 1 raises until the marker is there."""
    from keras_dqn.games.cartpole import CartPole

    class Faulty(CartPole):
        def train(self, *arguments, **options):
            if "seed_1_" in self.agent.weight_backup.name and not marker.exists():
                raise RuntimeError("the screen went dark")
            return super().train(*arguments, **options)

    return Faulty
