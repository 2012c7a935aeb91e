"use strict";

/* A number as people write it, with a minus sign. */
const text = (number, digits) => number.toFixed(digits).replace("-", "−");

/* The Q-values as bars. They and their axis follow with a short delay, since the best action of a cart pole changes up
   to 50 times a second. The axis spans what was seen in the last seconds: from zero on, all bars would look alike. */
class QBars {
  constructor(section, actions) {
    this.section = section;
    this.rows = actions.map((action) => {
      const row = document.createElement("div");
      row.className = "bar";
      row.innerHTML = `<span>${action}</span><div><i></i></div><output></output>`;
      section.querySelector(".bars").append(row);
      return row;
    });
    this.untilWritten = 0; // s
  }

  /* Forget what was shown: the next values are of another episode. */
  clear() {
    this.values = null;
  }

  show(qValues, seconds) {
    const jump = !this.values;
    const follow = (from, to, delay) => (jump ? to : to + (from - to) * Math.exp(-seconds / delay));
    this.values = qValues.map((value, i) => follow(this.values?.[i], value, 0.08));
    const low = Math.min(...this.values), high = Math.max(...this.values);
    this.low = Math.min(low, follow(this.low, low, 4));
    this.high = Math.max(high, follow(this.high, high, 4));
    this.untilWritten -= seconds;
    if (jump || seconds === 0 || this.untilWritten <= 0) this.write();
  }

  /* Bars, numbers and the choice together, ten times a second: what changes in every frame cannot be read. */
  write() {
    this.untilWritten = 0.1; // s
    const margin = 0.25 * (this.high - this.low) + 1e-3 * Math.abs(this.high) + 1e-6;
    const bottom = this.low - margin, top = this.high + margin;
    const chosen = bestAction(this.values);
    this.rows.forEach((row, i) => {
      row.querySelector("i").style.width = `${(100 * (this.values[i] - bottom)) / (top - bottom)}%`;
      row.querySelector("output").textContent = text(this.values[i], 2);
      row.classList.toggle("chosen", i === chosen);
    });
    const [left, right] = this.section.querySelectorAll(".axis span");
    const digits = [1, 2, 3].find((some) => text(bottom, some) !== text(top, some)) ?? 4; // two different numbers
    left.textContent = text(bottom, digits);
    right.textContent = text(top, digits);
  }
}
