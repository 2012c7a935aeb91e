"""Heads: the last layers of a network, which make Q-values of what the layers before them found."""

from typing import Any

from keras_dqn.backend import keras


@keras.saving.register_keras_serializable("keras_dqn")
class Dueling(keras.layers.Layer):
    """A head that splits value and advantage: Q(s, a) = V(s) + A(s, a) - mean of A(s, ·) (Wang et al. 2016).

    keras-rl has the value in the first column. Its files are known by their Lambda layer, and the column is moved as
    they are loaded; they are taken for its default, `dueling_type="avg"`. Where a file of other origin has the value
    first, nothing in it may say so: `load_weights(brain, path, value_first=True)`.

    Args:
        action_size: number of actions, and of outputs.
        value_and_advantages: the Dense layer of action_size + 1 that does it, the value in the last column: one product
            instead of two. By default a new one.
    """

    def __init__(self, action_size: int, value_and_advantages: "keras.layers.Dense | None" = None, **options: Any):
        super().__init__(**options)
        self.action_size = action_size
        dense = value_and_advantages or keras.layers.Dense(action_size + 1, dtype=self.dtype_policy)
        self.value_and_advantages = dense

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.value_and_advantages.build(input_shape)
        self.built = True

    def call(self, inputs: Any) -> Any:
        outputs = self.value_and_advantages(inputs)
        advantages, value = outputs[:, :-1], outputs[:, -1:]
        return value + advantages - keras.ops.mean(advantages, axis=-1, keepdims=True)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.action_size)

    def get_config(self) -> dict[str, Any]:
        dense = self.value_and_advantages.get_config()
        return {**super().get_config(), "action_size": self.action_size, "value_and_advantages": dense}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Dueling":
        dense = keras.layers.Dense.from_config(config["value_and_advantages"])
        return cls(**{**config, "value_and_advantages": dense})
