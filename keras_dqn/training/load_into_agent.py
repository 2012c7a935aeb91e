"""Weights from a file into an agent: with the network that the file brings, where nobody asked for another."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_dqn.core.agent import Agent
from keras_dqn.files.brain_from import kernels, network_in, sizes, untold
from keras_dqn.files.network_config import Network, made, network_of
from keras_dqn.files.weights import WeightFileError


def with_weights(
    make: Callable[..., Agent], options: dict[str, Any], path: str | Path, may_bring: bool, game: str
) -> tuple[Agent, dict[str, Any]]:
    """An agent with the weights of a file, and the options that it is made of.

    Args:
        make: what makes an agent of options, as keywords.
        options: of the recipe and the caller.
        path: the file.
        may_bring: whether its network, where it tells one, may take the place of the options'.
        game: what the agent plays, for messages.

    Raises:
        WeightFileError: the weights are not whole, or another network's and the file does not tell which; the message
            has the shapes in the file, and the keyword to give.
    """
    agent, network, reason = make(**options), None, "it has no configuration"
    if may_bring:
        try:
            network = network_in(path)
        except (ValueError, OSError) as error:
            reason = str(error)
    if network is None or network == network_of(agent.brain):
        _load(agent, path, may_bring, reason, game)
        return agent, options
    _check_sizes(agent, network, path, game)
    options = {**options, "network": None, "brain": made(network)}
    agent = make(**options)
    agent.load_model(path)
    print(f"{path} brings its network: {network}")
    return agent, options


def _load(agent, path, may_bring, reason, game):
    """Load weights into the agent's own network; where they are another's, say for what they are."""
    try:
        agent.load_model(path)
    except WeightFileError as error:
        found, needed = sizes(path), (agent.state_size, agent.action_size)
        if found not in (None, needed):
            raise _of_another_game(path, found, needed, game, error) from error
        there = [shape for _, shape in kernels(path)]
        own = [tuple(weight.shape) for weight in agent.brain.weights if len(weight.shape) > 1]
        if may_bring and there and there != own:
            raise WeightFileError(f"{path}: {untold(path, reason)}. Received: {error}") from error
        raise


def _check_sizes(agent, network: Network, path, game):
    found, needed = (network.state_shape, *network.outputs), (agent.state_shape, agent.action_size)
    if found != needed:
        first, own = (shape[0] if len(shape) == 1 else shape for shape in (network.state_shape, agent.state_shape))
        raise _of_another_game(path, (first, found[-1]), (own, agent.action_size), game, network)


def _of_another_game(path, found, needed, game, received):
    return WeightFileError(
        f"{path}: these are weights of a network with {found[0]} inputs and {found[1]} actions; "
        f"{game} has {needed[0]} and {needed[1]}. Received: {received}"
    )
