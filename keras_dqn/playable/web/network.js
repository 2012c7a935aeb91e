"use strict";

/* The forward pass of a Keras Sequential of Dense layers. The weights are Keras's float32; sums are in float64, so that
   they differ from Keras's by no more than Keras's own rounding. */

const ACTIVATIONS = {
  linear: (x) => x,
  relu: (x) => Math.max(x, 0),
  tanh: Math.tanh,
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  elu: (x) => (x > 0 ? x : Math.expm1(x)),
};

/* Each makes one layer, [inputs] to [outputs], from its description and `take`, which hands out the next weights. */
const LAYERS = {
  // Scale and offset are one number, or one for each value.
  rescaling({ scale, offset }) {
    return (values) => values.map((value, i) => value * scale[i % scale.length] + offset[i % offset.length]);
  },

  dense({ inputs, outputs, activation }, take, hasBias = true) {
    const kernel = take(inputs * outputs); // [inputs, outputs], row by row
    const bias = hasBias ? take(outputs) : new Float32Array(outputs);
    const activate = ACTIVATIONS[activation];
    return (values) =>
      Array.from(bias, (sum, column) => {
        for (let row = 0; row < inputs; row++) sum += values[row] * kernel[row * outputs + column];
        return activate(sum);
      });
  },

  dense_without_bias: (layer, take) => LAYERS.dense(layer, take, false),

  // Advantages and, last, the value: Q(s, a) = V(s) + A(s, a) - mean of A(s, ·).
  dueling() {
    return (values) => {
      const advantages = values.slice(0, -1), value = values.at(-1);
      const mean = advantages.reduce((sum, advantage) => sum + advantage, 0) / advantages.length;
      return advantages.map((advantage) => value + advantage - mean);
    };
  },
};

class Network {
  /* `weights` is the base64 of all layers' float32, in the little-endian order that every browser's machine has. */
  constructor({ layers, weights }) {
    const numbers = new Float32Array(Uint8Array.from(atob(weights), (byte) => byte.charCodeAt(0)).buffer);
    let taken = 0;
    const take = (count) => numbers.subarray(taken, (taken += count));
    this.layers = layers.map((layer) => LAYERS[layer.kind](layer, take));
  }

  /* The Q-value of each action. gymnasium's observations, unlike its states, are float32. */
  qValues(state) {
    return this.layers.reduce((values, layer) => layer(values), state.map(Math.fround));
  }
}

const bestAction = (qValues) => qValues.indexOf(Math.max(...qValues)); // the first of equals, as NumPy's argmax
