"use strict";

/* The games as gymnasium computes them: in float64, operation by operation in its order. What remains between the two
   is the last digit of a sine or cosine.

   A state is an array: [position, velocity, angle, angular velocity] (m, m/s, rad, rad/s) of a cart pole, and
   [position, velocity] of the car. A game's `step(state, action)` returns the next state, the reward, and the ending:
   why the episode is over, or null. It knows nothing of the time limit, which `Episode` adds. */

const TRACK = 2.4; // m from the middle to either end

function cartPole({ forces, halfLength, failureDegrees, ...description }) {
  const gravity = 9.8, poleMass = 0.1, totalMass = poleMass + 1.0, seconds = 0.02;
  const poleMassLength = poleMass * halfLength;
  const failureAngle = (failureDegrees * 2 * Math.PI) / 360;

  function ending([position, , angle]) {
    if (position < -TRACK || position > TRACK) return "left the track";
    return angle < -failureAngle || angle > failureAngle ? "fell" : null;
  }

  function step([position, velocity, angle, spin], action) {
    const cos = Math.cos(angle), sin = Math.sin(angle);
    const push = (forces[action] + poleMassLength * (spin * spin) * sin) / totalMass;
    const turn = (gravity * sin - cos * push) / (halfLength * (4.0 / 3.0 - (poleMass * (cos * cos)) / totalMass));
    const acceleration = push - (poleMassLength * turn * cos) / totalMass;
    const state = [
      position + seconds * velocity,
      velocity + seconds * acceleration,
      angle + seconds * spin,
      spin + seconds * turn,
    ];
    return { state, reward: 1, ending: ending(state) };
  }

  // The one thing gymnasium does not have: an impulse (N s) on the tip of the pole, whose inertia is 4/3 m l².
  function nudge([position, velocity, angle, spin], impulse) {
    return [position, velocity, angle, spin + (1.5 * impulse) / poleMassLength];
  }

  const reset = (random) => Array.from({ length: 4 }, () => -0.05 + 0.1 * random());
  return { ...description, stepsPerSecond: 50, halfLength, failureAngle, reset, step, nudge };
}

function mountainCar(description) {
  const clip = (value, low, high) => Math.min(Math.max(value, low), high);

  function step([position, velocity], action) {
    velocity += (action - 1) * 0.001 + Math.cos(3 * position) * -0.0025;
    velocity = clip(velocity, -0.07, 0.07);
    position = clip(position + velocity, -1.2, 0.6);
    if (position === -1.2 && velocity < 0) velocity = 0;
    return { state: [position, velocity], reward: -1, ending: position >= 0.5 && velocity >= 0 ? "flag" : null };
  }

  const reset = (random) => [-0.6 + 0.2 * random(), 0];
  return { ...description, stepsPerSecond: 30, reset, step };
}

/* `actions` are named in the order of their numbers. `limit` is gymnasium's, in steps; `rule` is what a player has to
   know beyond the keys. */
const GAMES = {
  cartpole: cartPole({
    title: "CartPole",
    goal: "Keep the pole within 12° for 500 steps.",
    rule:
      "This game pushes in every step: with no key held, left and right alternate, which comes closest to no push.",
    actions: ["Left", "Right"],
    forces: [-10, 10],
    limit: 500,
    halfLength: 0.5,
    failureDegrees: 12,
  }),
  "playable-cartpole": cartPole({
    title: "CartPole to play",
    goal: "Keep the pole within 60° for 1000 steps.",
    rule: "With no key held, nothing pushes the cart.",
    actions: ["Left", "Nothing", "Right"],
    forces: [-10, 0, 10],
    limit: 1000,
    halfLength: 1.5,
    failureDegrees: 60,
  }),
  mountaincar: mountainCar({
    title: "MountainCar",
    goal: "Swing up to the flag; the engine alone is too weak.",
    rule: "With no key held, the car rolls.",
    actions: ["Left", "Nothing", "Right"],
    limit: 200,
  }),
};

/* One step of a game by its name: pure, for whoever wants to check it. */
const step = (game, state, action) => GAMES[game].step(state, action);

class Episode {
  constructor(game, random = Math.random) {
    this.game = game;
    this.state = this.before = game.reset(random); // `before` is the state one step ago
    this.steps = 0;
    this.score = 0;
    this.ending = null;
  }

  step(action) {
    const { state, reward, ending } = this.game.step(this.state, action);
    this.before = this.state;
    this.state = state;
    this.score += reward;
    this.steps += 1;
    this.ending = ending ?? (this.steps >= this.game.limit ? "time limit" : null);
  }
}
