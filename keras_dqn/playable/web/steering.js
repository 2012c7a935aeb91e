"use strict";

/* What the player holds down: keys and the two buttons, "left" and "right". */
class Steering {
  constructor(buttons) {
    this.held = new Map(); // key or button: side
    this.buttons = buttons;
    for (const button of buttons) {
      button.addEventListener("pointerdown", (event) => {
        button.setPointerCapture(event.pointerId); // so that a thumb may slide off the button
        this.hold(button, button.dataset.side);
      });
      for (const type of ["pointerup", "pointercancel"]) button.addEventListener(type, () => this.release(button));
      button.addEventListener("contextmenu", (event) => event.preventDefault()); // of a long touch
    }
  }

  /* While the agent plays, the buttons do nothing. A button that is disabled would not tell of its release. */
  enable(enabled) {
    for (const button of this.buttons) button.disabled = !enabled;
    if (!enabled) this.releaseAll();
  }

  hold(source, side) {
    this.held.set(source, side);
    this.show();
  }

  release(source) {
    this.held.delete(source);
    this.show();
  }

  releaseAll() {
    this.held.clear();
    this.show();
  }

  /* -1, 0 or 1; both sides at once are as good as none. */
  get direction() {
    const sides = new Set(this.held.values());
    return sides.has("right") - sides.has("left");
  }

  show() {
    const sides = new Set(this.held.values());
    for (const button of this.buttons) button.classList.toggle("held", sides.has(button.dataset.side));
  }
}
