"""CartPole: the environment, its recipes, and what counts as solved."""

from keras_dqn.runner import Runner


class CartPole(Runner):
    """Balance a pole on a cart: 4 numbers in, push left or right, +1 a step, 500 steps at most; solved at 475.

    Example:
        cartpole = CartPole(200)
        cartpole.train()
        cartpole.run(0.0)
        CartPole(weights="pretrained").run()
    """

    name = "cartpole"
    environment = "CartPole-v1"
    solved_score = 475
    recipes = {
        "juvin": {},  # the Agent's own defaults are that notebook's
    }
