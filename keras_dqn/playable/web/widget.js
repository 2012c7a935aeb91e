"use strict";

/* Who plays, how the clock runs, and what the page shows of it. One page holds one game: in a notebook every game has a
   frame, so that neither names nor keys of two of them meet. */

const DIRECTIONS = { Left: -1, Nothing: 0, Right: 1 };
const SPEEDS = [1, 0.5, 0.25, 2];
const FRACTIONS = { 0.5: "½", 0.25: "¼" };
const PUSH = 0.2; // N at the pole's tip, while the finger or mouse is down
const SHORTEST_PUSH = 5; // steps, for a tap or a click

const speedText = (speed) => `${FRACTIONS[speed] ?? speed}×`;

class Widget {
  /* `agent` is the description of a network, or null. `root.dataset.speed` is that of the clock: 1 is real time. */
  constructor(root, agent) {
    this.root = root;
    this.game = GAMES[root.dataset.game];
    this.network = agent && new Network(agent);
    this.find = (selector) => root.querySelector(selector);
    this.canvas = this.find("canvas");
    this.pixels = 1; // of the canvas, a CSS pixel
    this.steering = new Steering(root.querySelectorAll(".steer"));
    this.bars = this.network && new QBars(this.find(".q-values"), this.game.actions);
    this.best = {}; // player: {score, speed}
    this.finger = null; // {x, y, steps, down}: on the canvas, in CSS pixels
    this.describe(agent);
    this.listen();
    this.begin("human");
  }

  get speed() {
    return Number(this.root.dataset.speed);
  }

  // ------------------------------------------------------------ the course of an episode

  /* A new episode. The agent starts at once; a human presses a button or key first. */
  begin(player) {
    this.player = this.root.dataset.player = player;
    this.episode = new Episode(this.game);
    this.action = null;
    this.force = 0; // what is drawn, -1 to 1: follows the actions, which may change every step
    this.owed = 0; // steps that the clock is ahead of the episode
    this.finger = null;
    this.bars?.clear();
    for (const button of this.root.querySelectorAll(".players button"))
      button.setAttribute("aria-pressed", String(button.dataset.player === player));
    this.steering.enable(player === "human");
    this.enter(player === "agent" ? "playing" : "ready");
  }

  /* Phases: "ready", "playing", "paused", "over". */
  enter(phase) {
    this.phase = phase;
    this.find(".overlay").hidden = phase === "playing";
    this.find(".pause").textContent = phase === "paused" ? "Go on" : "Pause";
    this.find(".pause").disabled = phase === "ready" || phase === "over";
    this.find(".go").textContent = { ready: "Play", paused: "Go on", over: "Play again" }[phase] ?? "";
    this.find(".message").textContent = this.message();
    cancelAnimationFrame(this.request);
    this.shownAt = performance.now();
    this.frame(this.shownAt);
  }

  message() {
    const { score, ending } = this.episode;
    const sentences = {
      ready: "Hold ← or →, A or D, or the two buttons.",
      paused: "Paused",
      over: `Episode over: score ${text(score, 0)} (${ending})`,
    };
    return sentences[this.phase] ?? "";
  }

  /* What the big button does, and the space bar. */
  go() {
    if (this.phase === "over") this.begin(this.player);
    if (this.phase !== "playing") this.enter("playing");
  }

  togglePause() {
    if (this.phase === "playing") this.enter("paused");
    else if (this.phase === "paused") this.enter("playing");
  }

  end() {
    const { score } = this.episode, best = this.best[this.player];
    if (!best || score > best.score) this.best[this.player] = { score, speed: this.speed };
    this.enter("over");
    for (const [player, { score, speed }] of Object.entries(this.best)) {
      this.find(`.best[data-player="${player}"] output`).textContent = text(score, 0);
      this.find(`.best[data-player="${player}"] small`).textContent = speed < 1 ? `at ${speedText(speed)} speed` : "";
    }
  }

  // ------------------------------------------------------------ the clock

  /* One frame of the screen: as many steps as real time asks for, and the picture between the last two. */
  frame(now) {
    const seconds = Math.min(Math.max(now - this.shownAt, 0) / 1000, 0.1); // a hidden page does not catch up
    this.shownAt = now;
    if (this.phase === "playing") this.owed += seconds * this.speed * this.game.stepsPerSecond;
    while (this.phase === "playing" && this.owed >= 1) {
      this.owed -= 1;
      this.step();
    }
    this.show(seconds);
    if (this.phase === "playing") this.request = requestAnimationFrame((time) => this.frame(time));
  }

  step() {
    const { episode, game } = this;
    if (this.finger) this.pushPole();
    this.action = this.player === "agent" ? bestAction(this.network.qValues(episode.state)) : this.humanAction();
    episode.step(this.action);
    this.force += 0.2 * (DIRECTIONS[game.actions[this.action]] - this.force);
    if (episode.ending) this.end();
  }

  /* With nothing held, "Nothing"; in a game that has no such action, left and right in turn. */
  humanAction() {
    const { direction } = this.steering;
    const action = this.game.actions.findIndex((name) => DIRECTIONS[name] === direction);
    return action >= 0 ? action : this.episode.steps % 2;
  }

  /* The pole gives way to the finger. */
  pushPole() {
    const { finger, episode } = this;
    finger.side = finger.x <= poleAt(this.scene(), this.game, episode.state, finger.y) ? 1 : -1;
    episode.state = this.game.nudge(episode.state, (finger.side * PUSH) / this.game.stepsPerSecond);
    finger.steps += 1;
    if (!finger.down && finger.steps >= SHORTEST_PUSH) this.finger = null;
  }

  // ------------------------------------------------------------ the picture

  show(seconds) {
    const { episode } = this;
    const part = this.phase === "over" ? 1 : Math.min(this.owed, 1);
    const between = episode.state.map((value, i) => episode.before[i] + part * (value - episode.before[i]));
    const draw = this.game.nudge ? drawCartPole : drawMountainCar;
    draw(this.scene(), this.game, between);
    this.find(".score output").textContent = text(episode.score, 0);
    this.find(".progress i").style.width = `${(100 * episode.steps) / this.game.limit}%`;
    this.bars?.show(this.network.qValues(episode.state), seconds);
  }

  scene() {
    const pen = this.canvas.getContext("2d");
    const width = this.canvas.width / this.pixels, height = this.canvas.height / this.pixels;
    pen.setTransform(this.pixels, 0, 0, this.pixels, 0, 0);
    return {
      pen, width, height,
      unit: Math.max(width / 600, 0.75),
      colours: this.colours,
      paint: this.colours[this.player],
      force: this.force,
      time: this.episode.steps / this.game.stepsPerSecond,
      finger: this.finger?.side ? this.finger : null,
    };
  }

  /* After a change of the canvas's size or of the colour scheme. */
  redraw() {
    this.pixels = window.devicePixelRatio;
    this.canvas.width = Math.round(this.canvas.clientWidth * this.pixels);
    this.canvas.height = Math.round(this.canvas.clientHeight * this.pixels);
    this.colours = readColours(this.root);
    this.show(0);
  }

  describe(agent) {
    const { game } = this;
    this.find("h1").textContent = game.title;
    this.find(".goal").textContent = game.goal;
    this.find(".speed").textContent = `Speed ${speedText(this.speed)}`;
    this.canvas.setAttribute("aria-label", `${game.title}: ${game.goal}`);
    const push = game.nudge ? " Click or touch beside the pole to push it." : "";
    this.find(".hint").textContent = `${game.rule}${push} Space starts and pauses, R restarts.`;
    this.colours = readColours(this.root);
    this.root.classList.toggle("alone", !agent);
    for (const part of [".players", '.best[data-player="agent"]', ".q-values"]) this.find(part).hidden = !agent;
    if (!agent) return;
    this.find(".q-values h2").textContent = `The agent’s Q-values, network ${sizes(agent, game.actions.length)}`;
  }

  // ------------------------------------------------------------ keys, buttons, fingers

  listen() {
    const { root, canvas } = this;
    const clicked = (selector, act) =>
      this.find(selector).addEventListener("click", (event) => {
        act();
        if (event.detail > 0) root.focus({ preventScroll: true }); // after the mouse, the space bar is the game's again
      });
    clicked('.players [data-player="human"]', () => this.begin("human"));
    clicked('.players [data-player="agent"]', () => this.begin("agent"));
    clicked(".go", () => this.go());
    clicked(".pause", () => this.togglePause());
    clicked(".restart", () => this.begin(this.player));
    clicked(".speed", () => this.nextSpeed());
    document.addEventListener("keydown", (event) => this.keyDown(event));
    document.addEventListener("keyup", (event) => this.steering.release(event.code));
    window.addEventListener("blur", () => this.leave());
    if (this.game.nudge) this.listenToFinger(canvas);
    for (const button of this.steering.buttons) button.addEventListener("pointerdown", () => this.steer());
    new ResizeObserver(() => this.redraw()).observe(canvas);
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
  }

  keyDown(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return; // the browser's own
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const side = { ArrowLeft: "left", a: "left", ArrowRight: "right", d: "right" }[key];
    const scrolls = key === "ArrowUp" || key === "ArrowDown";
    const onButton = key === " " && event.target.closest("button"); // then it presses that button
    if (onButton || !(side || scrolls || " pr".includes(key))) return;
    event.preventDefault();
    if (side) this.steering.hold(event.code, side);
    if (event.repeat) return;
    if (side) this.steer();
    else if (key === "r") this.begin(this.player);
    else if (key === " " && this.phase !== "playing") this.go();
    else if (key === " " || key === "p") this.togglePause();
  }

  /* The first key or touch starts the game. */
  steer() {
    if (this.phase === "ready") this.enter("playing");
  }

  /* Another part of the page has the keyboard now: a key held down would never be released, and nobody would steer. */
  leave() {
    this.steering.releaseAll();
    if (this.player === "human" && this.phase === "playing") this.enter("paused");
  }

  listenToFinger(canvas) {
    const at = ({ clientX, clientY }) => {
      const { left, top } = canvas.getBoundingClientRect();
      return { x: clientX - left, y: clientY - top };
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (this.phase !== "playing") return; // or the next episode would begin with a push
      canvas.setPointerCapture(event.pointerId);
      this.finger = { ...at(event), steps: 0, down: true };
    });
    canvas.addEventListener("pointermove", (event) => {
      if (this.finger?.down) Object.assign(this.finger, at(event));
    });
    for (const type of ["pointerup", "pointercancel"])
      canvas.addEventListener(type, () => {
        if (this.finger) this.finger.down = false;
      });
  }

  nextSpeed() {
    const speed = SPEEDS[(SPEEDS.indexOf(this.speed) + 1) % SPEEDS.length];
    this.root.dataset.speed = speed;
    this.find(".speed").textContent = `Speed ${speedText(speed)}`;
  }
}

/* "4-24-24-2": the widths of a network's layers. */
function sizes({ layers }, actions) {
  const dense = layers.filter(({ inputs }) => inputs);
  return [...dense.map(({ inputs }) => inputs), actions].join("-"); // a dueling head has one output more inside
}

const COLOURS = [
  "human", "agent", "danger", "ink", "muted", "skyTop", "skyBottom", "ground", "rail", "pole", "axle", "tyre", "spoke",
  "shine", "glass", "farHill", "hillTop", "hillBottom", "hillEdge", "flag",
];

/* The colours of the scenes by name: skyTop is --sky-top of the style sheet, light or dark. */
function readColours(root) {
  const style = getComputedStyle(root);
  const variable = (name) => `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
  return Object.fromEntries(COLOURS.map((name) => [name, style.getPropertyValue(variable(name)).trim()]));
}

/* The frame of a notebook's output cell does not grow by itself. */
function fitFrame() {
  const frame = window.frameElement; // null on a page of its own, and where the notebook keeps its frames apart
  if (!frame) return;
  const { documentElement, body } = document;
  new ResizeObserver(() => (frame.style.height = `${documentElement.offsetHeight}px`)).observe(body);
}

const widget = new Widget(
  document.querySelector(".widget"),
  JSON.parse(document.querySelector("script.agent").textContent),
);
fitFrame();
window.kerasDqn = { GAMES, Episode, Network, step, widget }; // for the console, and for the tests
