"""Torch optimizers that do what the Keras ones of the recipes do, and torch on one thread."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from keras_dqn.backend import keras


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread while this lasts, so that its speed depends less on what else the machine does.

    On cores that others use, threads that wait for one another have been seen to take a hundred times as long.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def aligned_optimizer(
    optimizer: "keras.optimizers.Optimizer", parameters: "Iterable[torch.nn.Parameter]"
) -> "torch.optim.Optimizer":
    """The torch optimizer that does what a Keras SGD, Adam or AdamW does, to float32 rounding; without its clipping.

    Keras adds epsilon to sqrt(v), torch to sqrt(v / (1 - beta_2^t)): the same once torch's epsilon is Keras' divided by
    sqrt(1 - beta_2^t), which a hook sets before every step.
    """
    config, kind, kinds = optimizer.get_config(), type(optimizer), keras.optimizers
    refused = isinstance(config["learning_rate"], dict) or kind not in (kinds.SGD, kinds.Adam, kinds.AdamW)
    refused |= any(config[name] for name in ("use_ema", "loss_scale_factor", "gradient_accumulation_steps"))
    if refused or (kind is kinds.SGD and config["weight_decay"]):
        raise ValueError(f"`optimizer` must be a plain Keras SGD, Adam or AdamW. Received: {kind.__name__}, {config}")
    if kind is kinds.SGD:
        momentum = {"momentum": config["momentum"], "nesterov": config["nesterov"]}
        return torch.optim.SGD(parameters, config["learning_rate"], fused=True, **momentum)
    options = {"amsgrad": config["amsgrad"], "weight_decay": config["weight_decay"] or 0.0, "fused": True}
    beta_2, epsilon = config["beta_2"], config["epsilon"]
    adam = torch.optim.AdamW(parameters, config["learning_rate"], (config["beta_1"], beta_2), epsilon, **options)

    def set_epsilon(adam, *_):
        for group in adam.param_groups:
            steps = float(adam.state[group["params"][0]].get("step", 0))
            group["eps"] = epsilon / math.sqrt(1 - beta_2 ** (steps + 1))

    adam.register_step_pre_hook(set_epsilon)
    return adam


def clip_gradients(
    parameters: "Iterable[torch.nn.Parameter]",
    clipnorm: float | None = None,
    clipvalue: float | None = None,
    global_clipnorm: float | None = None,
) -> None:
    """Clip the gradients in place as Keras optimizers with these options do; of which they take one at most."""
    if clipvalue is not None:
        nn.utils.clip_grad_value_(parameters, clipvalue)
    if global_clipnorm is not None:
        nn.utils.clip_grad_norm_(parameters, global_clipnorm)
    if clipnorm is not None:
        for parameter in parameters:
            nn.utils.clip_grad_norm_(parameter, clipnorm)
