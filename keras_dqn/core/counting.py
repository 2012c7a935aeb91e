"""Every so many steps, updates or episodes: the one place that works out when."""


class Every:
    """Tells how often something is due, by a count that only grows.

    Args:
        n: after every so many.
        start: what was counted before.

    Example:
        replays_due = Every(8)
        for _ in range(replays_due(steps)):  # once for each multiple of 8 that was passed since it was last asked
            agent.replay()
    """

    def __init__(self, n: int, start: int = 0):
        self.n, self._passed = n, start // n

    def __call__(self, count: int) -> int:
        passed, self._passed = self._passed, count // self.n
        return self._passed - passed
