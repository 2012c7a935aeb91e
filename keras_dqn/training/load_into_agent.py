"""Networks that weight files bring: made from the file alone, where it says enough, or put into an agent."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from keras_dqn.backend import keras
from keras_dqn.core.agent import Agent
from keras_dqn.core.networks import atari  # noqa: F401  files may name its layers, as those of mlp, once it is imported
from keras_dqn.files.network_config import in_words, made, network_of, told_network
from keras_dqn.files.weight_file import WeightFileError, read_weight_file
from keras_dqn.files.weights import load_weights

MOST_SAID = 20  # kernels, in a message


def brain_from(path: str | Path) -> "keras.Sequential":
    """A Keras model with the weights of a file, of the network that the file says they are of.

    Files that say so are whole models (.h5 of Keras 1, 2 and 3, .keras) and those that keras_dqn writes. They are read
    as data: a model is made of known layers, Dense and convolutional ones, activations, dropout, pooling, normalization
    and scaling, one after the other, and nothing of the file is executed.

    Returns:
        A `keras.Sequential`, [B, *state_shape] to float32 [B, actions], to be handed on: `CartPole(brain=brain)`.

    Raises:
        WeightFileError: the file does not tell its network, in which case the message has the shapes of its tensors and
            what to give instead, or it is damaged; names file and tensor.

    Example:
        CartPole(brain=brain_from("theirs.h5"), weights=None).evaluate()
    """
    file = read_weight_file(path)
    network, reason = told_network(file.config)
    if network is None:
        raise WeightFileError(f"{path}: {_untold(file)}. Received: {reason}")
    brain = _made(network, file, path)
    load_weights(brain, path)
    return brain


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
    agent = make(**options)
    file = read_weight_file(path)
    network, reason = told_network(file.config)
    needed, own = (agent.state_size, agent.action_size), network_of(agent.brain)
    dueling = own is not None and own["config"]["layers"][-1]["class_name"] == "Dueling"
    of_keras_rl = dueling and file.joins_value_first  # whose Lambda is what our head does
    if network is None and file.config is not None and options.get("brain") is None and not of_keras_rl:
        raise WeightFileError(f"{path}: {_untold(file)}. Received: {reason}")
    if may_bring and network not in (None, own):
        brain = _made(network, file, path)
        shape = brain.input_shape[1:]
        found = shape[0] if len(shape) == 1 else shape, brain.output_shape[-1]
        if found != needed:
            raise _of_another_game(path, found, needed, game, in_words(network))
        options = {**options, "network": None, "brain": brain}
        agent = make(**options)
        print(f"{path} brings its network: {in_words(network)}")
    try:
        agent.load_model(path)
    except WeightFileError as error:
        shapes = [shape for _, shape in _kernels(file)]
        if (found := _sizes(file)) not in (None, needed):
            raise _of_another_game(path, found, needed, game, error) from error
        if may_bring and shapes != [tuple(weight.shape) for weight in agent.brain.weights if len(weight.shape) > 1]:
            raise WeightFileError(f"{path}: {_untold(file, f' ({reason})')}. Received: {error}") from error
        raise
    seen = in_words if options.get("brain") is not None else dict  # of a brain, what makes no difference may differ
    if not may_bring and None not in (network, own) and seen(network) != seen(own):
        words = f"the file's network is another: {in_words(network)}; leave out `network` and `brain`, and it is taken"
        raise WeightFileError(f"{path}: {words}. Received: {in_words(own)}")
    return agent, options


def _made(network, file, path):
    try:
        return made(network, sum(values.size for values in file.tensors.values()))
    except Exception as error:  # of whatever kind: what Keras makes of it
        reason = str(error) if isinstance(error, ValueError) else repr(error)
        raise WeightFileError(f"{path}: {_untold(file)}. Received: {reason[:500]}") from error


def _of_another_game(path, found, needed, game, received):
    return WeightFileError(
        f"{path}: these are weights of a network with {found[0]} inputs and {found[1]} actions; "
        f"{game} has {needed[0]} and {needed[1]}. Received: {received}"
    )


# ---------------------------------------------------------------- files that do not say it


def _untold(file, reason=""):
    """Words for a file that does not tell its network: the shapes of its kernels, and what to give instead."""
    kernels = _kernels(file)
    shapes = ", ".join(str(shape) for _, shape in kernels[:MOST_SAID]) or "none"
    keyword = "`brain`, a Keras model with these layers"
    if file.config is None and _sizes(file) and len(kernels) <= MOST_SAID:
        hidden = tuple(shape[1] for _, shape in kernels[:-1])
        dueling = ', "dueling": True' if "dueling" in kernels[-1][0] else ""
        keyword = f'`network`, like {{"hidden": {hidden}, "activation": "relu"{dueling}}}, with their activation'
    return f"the file does not tell its network{reason}: its kernels are {shapes}; give {keyword}"


def _kernels(file):
    """[(name, shape)] of the tensors that are no vectors."""
    return [(name, values.shape) for name, values in file.tensors.items() if values.ndim > 1]


def _sizes(file):
    """(inputs, actions) of Dense layers one after the other, by their kernels; None where it cannot be told."""
    kernels = _kernels(file)
    if not kernels or any(len(shape) != 2 for _, shape in kernels):
        return None
    if any(before[1] != after[0] for (_, before), (_, after) in pairwise(kernels)):
        return None
    last, (_, outputs) = kernels[-1]
    return kernels[0][1][0], outputs - ("dueling" in last)  # whose head has the value beside the advantages
