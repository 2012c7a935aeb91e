"use strict";

/* The pictures of the games. `scene` holds what they share:
   pen: the canvas's 2D context; width, height: of the picture in CSS pixels; unit: 1/600 of the width, at least 0.75;
   colours: by name, from the style sheet; paint: the colour of whoever plays;
   force: what pushes the cart or car, -1 to 1; time: seconds played; finger: {x, y, side} while the pole is pushed. */

/* Where the parts of a cart pole are, in CSS pixels. A longer pole is seen from further away. */
function cartPoleLayout({ width, height, unit }, game, position) {
  const metres = TRACK + 2 * game.halfLength - 0.4; // to either side of the middle
  const scale = width / (2 * metres);
  const size = unit * (0.5 / game.halfLength) ** 0.25;
  const cart = { width: 74 * size, height: 30 * size, wheel: 9 * size };
  const ground = Math.round(height * 0.83);
  const axle = ground - cart.wheel - cart.height;
  return { scale, ground, cart, axle, x: width / 2 + position * scale, length: 2 * game.halfLength * scale };
}

function drawCartPole(scene, game, [position, , angle]) {
  const { scale, ground, cart, axle, x, length } = cartPoleLayout(scene, game, position);
  drawSky(scene);
  drawTrack(scene, ground, scale);
  drawFailureAngles(scene, x, axle, length, game.failureAngle);
  drawForce(scene, x, axle + cart.height / 2, cart.width);
  drawCart(scene, x, axle, cart, (position * scale) / cart.wheel);
  drawPole(scene, x, axle, length, angle, Math.abs(angle) / game.failureAngle);
  if (scene.finger) drawFinger(scene);
}

/* Where the pole is at the height `y` of the picture, or its nearer end is: x in CSS pixels. */
function poleAt(scene, game, [position, , angle], y) {
  const { axle, x, length } = cartPoleLayout(scene, game, position);
  const up = Math.min(Math.max(axle - y, 0), length * Math.cos(angle));
  return x + up * Math.tan(angle);
}

function drawSky({ pen, width, height, colours }) {
  const sky = pen.createLinearGradient(0, 0, 0, height);
  sky.addColorStop(0, colours.skyTop);
  sky.addColorStop(1, colours.skyBottom);
  pen.fillStyle = sky;
  pen.fillRect(0, 0, width, height);
}

function drawTrack({ pen, width, height, unit, colours }, ground, scale) {
  pen.fillStyle = colours.ground;
  pen.fillRect(0, ground, width, height - ground);
  pen.fillStyle = colours.rail;
  pen.fillRect(width / 2 - TRACK * scale, ground, 2 * TRACK * scale, 3);
  pen.font = `${Math.round(11 * Math.max(unit, 0.9))}px system-ui, sans-serif`;
  pen.textAlign = "center";
  for (const metres of [-TRACK, -1, 0, 1, TRACK]) {
    const x = Math.round(width / 2 + metres * scale);
    pen.fillStyle = colours.muted;
    pen.fillRect(x - 0.5, ground + 7, 1, 5);
    pen.fillText(`${metres} m`.replace("-", "−"), x, ground + 14 + 11 * unit);
  }
  pen.fillStyle = colours.danger;
  for (const side of [-1, 1]) {
    const x = width / 2 + side * TRACK * scale;
    pen.beginPath();
    pen.roundRect(x - 2.5 * unit, ground - 30 * unit, 5 * unit, 30 * unit + 3, 2 * unit);
    pen.fill();
  }
}

function drawFailureAngles({ pen, unit, colours }, x, axle, length, failureAngle) {
  pen.save();
  pen.strokeStyle = colours.danger;
  pen.globalAlpha = 0.55;
  pen.lineWidth = 1.5;
  pen.setLineDash([4 * unit, 6 * unit]);
  for (const angle of [-failureAngle, failureAngle]) {
    pen.beginPath();
    pen.moveTo(x, axle);
    pen.lineTo(x + Math.sin(angle) * length, axle - Math.cos(angle) * length);
    pen.stroke();
  }
  pen.restore();
}

/* An arrow out of the cart's side, as long as the push is strong. */
function drawForce({ pen, unit, paint, force }, x, y, cartWidth) {
  if (Math.abs(force) < 0.08) return;
  const side = Math.sign(force);
  const start = x + side * (cartWidth / 2 + 8 * unit), tip = start + force * 46 * unit;
  const head = 9 * unit * Math.min(1, 2 * Math.abs(force));
  pen.save();
  pen.fillStyle = pen.strokeStyle = paint;
  pen.globalAlpha = 0.35 + 0.65 * Math.abs(force);
  pen.lineWidth = 5 * unit;
  pen.lineCap = "round";
  pen.beginPath();
  pen.moveTo(start, y);
  pen.lineTo(tip, y);
  pen.stroke();
  pen.beginPath();
  pen.moveTo(tip + side * head * 1.3, y);
  pen.lineTo(tip, y - head);
  pen.lineTo(tip, y + head);
  pen.fill();
  pen.restore();
}

function drawCart(scene, x, top, { width, height, wheel }, turned) {
  const { pen, unit, colours, paint } = scene;
  pen.fillStyle = paint;
  pen.beginPath();
  pen.roundRect(x - width / 2, top, width, height, 7 * unit);
  pen.fill();
  pen.fillStyle = colours.shine;
  pen.beginPath();
  pen.roundRect(x - width / 2 + 4 * unit, top + 3.5 * unit, width - 8 * unit, 5 * unit, 2.5 * unit);
  pen.fill();
  for (const side of [-1, 1]) drawWheel(scene, x + side * width * 0.28, top + height, wheel, turned);
}

function drawWheel({ pen, colours }, x, y, radius, turned) {
  pen.fillStyle = colours.tyre;
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.fill();
  pen.strokeStyle = colours.spoke;
  pen.lineWidth = radius * 0.22;
  for (const spoke of [0, Math.PI / 2]) {
    const across = Math.cos(turned + spoke) * radius * 0.55, along = Math.sin(turned + spoke) * radius * 0.55;
    pen.beginPath();
    pen.moveTo(x - across, y - along);
    pen.lineTo(x + across, y + along);
    pen.stroke();
  }
}

/* `risk`, from 0 upright to 1 at the angle of failure, reddens the pole. */
function drawPole({ pen, unit, colours }, x, axle, length, angle, risk) {
  const width = 11 * unit;
  pen.save();
  pen.translate(x, axle + 4 * unit);
  pen.rotate(angle);
  for (const [colour, opacity] of [[colours.pole, 1], [colours.danger, Math.min(1, risk) ** 2]]) {
    pen.globalAlpha = opacity;
    pen.fillStyle = colour;
    pen.beginPath();
    pen.roundRect(-width / 2, -length - 4 * unit, width, length + 4 * unit + width / 2, width / 2);
    pen.fill();
  }
  pen.globalAlpha = 1;
  pen.fillStyle = colours.shine;
  pen.fillRect(-width / 4, -length, 2 * unit, length - 8 * unit);
  pen.fillStyle = colours.axle;
  pen.beginPath();
  pen.arc(0, 0, 4.5 * unit, 0, 2 * Math.PI);
  pen.fill();
  pen.restore();
}

function drawFinger({ pen, unit, colours, finger: { x, y, side } }) {
  pen.save();
  pen.strokeStyle = colours.ink;
  pen.lineWidth = 2.5;
  pen.lineCap = "round";
  for (const ring of [0, 1, 2]) {
    pen.globalAlpha = 0.7 - 0.2 * ring;
    pen.beginPath();
    pen.arc(x, y, (10 + 8 * ring) * unit, side > 0 ? -0.7 : Math.PI - 0.7, side > 0 ? 0.7 : Math.PI + 0.7);
    pen.stroke();
  }
  pen.restore();
}

const hill = (position) => Math.sin(3 * position) * 0.45 + 0.55; // gymnasium's, 0.1 to 1

function drawMountainCar(scene, game, [position]) {
  const { pen, width, height, unit } = scene;
  const across = (place) => ((place + 1.2) / 1.8) * width;
  const down = (place) => height * (0.97 - 0.6 * hill(place));
  drawSky(scene);
  drawFarHills(scene);
  drawHill(scene, across, down);
  drawFlag(scene, across(0.5), down(0.5));

  const slope = Math.atan2(down(position + 0.01) - down(position - 0.01), across(0.01) - across(-0.01));
  pen.save();
  pen.translate(across(position), down(position));
  pen.rotate(slope);
  drawForce(scene, 0, -16 * unit, 46 * unit);
  drawCar(scene, (across(position) - across(-0.5)) / (7 * unit));
  pen.restore();
}

function drawFarHills({ pen, width, height, colours }) {
  pen.fillStyle = colours.farHill;
  pen.beginPath();
  pen.moveTo(0, height);
  for (let x = 0; x <= width; x += 4) {
    const place = x / width;
    pen.lineTo(x, height * (0.55 - 0.1 * Math.sin(9 * place + 1) - 0.05 * Math.sin(21 * place)));
  }
  pen.lineTo(width, height);
  pen.fill();
}

function drawHill({ pen, width, height, colours }, across, down) {
  const grass = pen.createLinearGradient(0, height * 0.35, 0, height);
  grass.addColorStop(0, colours.hillTop);
  grass.addColorStop(1, colours.hillBottom);
  pen.fillStyle = grass;
  pen.strokeStyle = colours.hillEdge;
  pen.lineWidth = 3;
  pen.beginPath();
  pen.moveTo(-5, height + 5);
  for (let place = -1.21; place <= 0.62; place += 0.01) pen.lineTo(across(place), down(place));
  pen.lineTo(width + 5, height + 5);
  pen.fill();
  pen.stroke();
}

function drawFlag({ pen, unit, colours, time }, x, ground) {
  const top = ground - 52 * unit;
  pen.fillStyle = colours.ink;
  pen.fillRect(x - unit, top, 2 * unit, 52 * unit);
  pen.fillStyle = colours.flag;
  pen.beginPath();
  pen.moveTo(x + unit, top);
  for (let i = 0; i <= 10; i++) pen.lineTo(x + unit + 2.4 * i * unit, top + wave(i) + 0.4 * i * unit);
  for (let i = 10; i >= 0; i--) pen.lineTo(x + unit + 2.4 * i * unit, top + wave(i) + (18 - 0.4 * i) * unit);
  pen.fill();

  function wave(i) {
    return Math.sin(i * 0.7 - 6 * time) * 0.22 * i * unit;
  }
}

function drawCar(scene, turned) {
  const { pen, unit, colours, paint } = scene;
  pen.fillStyle = paint;
  pen.beginPath();
  pen.roundRect(-22 * unit, -22 * unit, 44 * unit, 14 * unit, 5 * unit);
  pen.fill();
  pen.beginPath();
  pen.roundRect(-13 * unit, -33 * unit, 25 * unit, 16 * unit, [8 * unit, 8 * unit, 0, 0]);
  pen.fill();
  pen.fillStyle = colours.glass;
  pen.beginPath();
  pen.roundRect(-9 * unit, -30 * unit, 8 * unit, 8 * unit, 2 * unit);
  pen.roundRect(1 * unit, -30 * unit, 8 * unit, 8 * unit, 2 * unit);
  pen.fill();
  for (const side of [-1, 1]) drawWheel(scene, side * 12 * unit, -7 * unit, 7 * unit, turned);
}
