"use strict";
// Drawing on canvases: axes, curves and level sets. Nothing here knows of episodes.

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

// A number as a person writes it; null stands for what is not finite.
function shown(value, digits = 3) {
  if (value === null || value === undefined) return "not finite";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e-3 && size < 1e5) return String(Number(value.toPrecision(digits)));
  const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
  return `${Number(mantissa)}e${Number(exponent)}`;
}

// The canvas, cleared and scaled to the screen's pixels.
function sheet(canvas) {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.clearRect(0, 0, width, height);
  pen.font = "11px system-ui, sans-serif";
  pen.lineJoin = "round";
  return { pen, width, height };
}

// A plot with a linear axis below and a logarithmic one at the left.
// lines: [{points: [[x, y], ...], colour, dots}], marks: [x, ...] drawn as dashed lines, here: [x, y] drawn as a ring.
function plot(canvas, { lines, low, high, marks = [], here = null, label = shown }) {
  const { pen, width, height } = sheet(canvas);
  const left = 52, right = 10, top = 8, bottom = 22;
  const values = lines.flatMap((line) => line.points.map((point) => point[1])).filter((value) => value > 0);
  let least = Math.log10(Math.min(...values)), most = Math.log10(Math.max(...values));
  if (!values.length) [least, most] = [0, 1];
  if (most - least < 0.2) [least, most] = [(least + most) / 2 - 0.1, (least + most) / 2 + 0.1];
  const margin = 0.06 * (most - least);
  [least, most] = [least - margin, most + margin];
  const across = (x) => left + ((x - low) / (high - low || 1)) * (width - left - right);
  const up = (y) => top + (1 - (Math.log10(y) - least) / (most - least)) * (height - top - bottom);
  pen.strokeStyle = colour("line");
  pen.fillStyle = colour("soft");
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  const whole = most - least > 1.2, every = whole ? Math.max(1, Math.ceil((most - least) / 5)) : (most - least) / 3.2;
  const first = whole ? Math.ceil(least / every) * every : least + margin;
  for (let level = first; level <= most; level += every) {
    const y = up(10 ** level);
    pen.beginPath(); pen.moveTo(left, y); pen.lineTo(width - right, y); pen.stroke();
    pen.fillText(whole ? (Math.abs(level) < 3 ? String(Number((10 ** level).toPrecision(1))) : `1e${level}`) : shown(10 ** level), left - 6, y);
  }
  pen.textBaseline = "alphabetic";
  for (const [x, align] of [[low, "left"], [(low + high) / 2, "center"], [high, "right"]]) {
    pen.textAlign = align;
    pen.fillText(label(x), across(x), height - 6);
  }
  pen.setLineDash([4, 3]);
  pen.strokeStyle = colour("jump");
  pen.globalAlpha = marks.length > 20 ? 0.35 : 0.7;
  for (const x of marks) { pen.beginPath(); pen.moveTo(across(x), top); pen.lineTo(across(x), height - bottom); pen.stroke(); }
  pen.globalAlpha = 1;
  pen.setLineDash([]);
  for (const line of lines) {
    pen.strokeStyle = pen.fillStyle = line.colour;
    pen.lineWidth = 1.7;
    pen.beginPath();
    let down = false;
    for (const [x, y] of line.points) {
      if (!(y > 0)) { down = false; continue; }
      down ? pen.lineTo(across(x), up(y)) : pen.moveTo(across(x), up(y));
      down = true;
    }
    pen.stroke();
    if (line.dots) for (const [x, y] of line.points) if (y > 0) { pen.beginPath(); pen.arc(across(x), up(y), 2, 0, 7); pen.fill(); }
  }
  pen.lineWidth = 1;
  if (here && here[1] > 0) {
    pen.strokeStyle = colour("text");
    pen.lineWidth = 2;
    pen.beginPath(); pen.arc(across(here[0]), up(here[1]), 5, 0, 7); pen.stroke();
  }
  return { x: (pixel) => low + ((pixel - left) / (width - left - right)) * (high - low) };
}

// Numbers from the base64 of little-endian 16-bit integers.
function unpack(text) {
  const raw = atob(text), values = new Uint16Array(raw.length / 2);
  for (let i = 0; i < values.length; i++) values[i] = raw.charCodeAt(2 * i) | (raw.charCodeAt(2 * i + 1) << 8);
  return values;
}

const channels = (hex) => [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));

// Level sets as shades and lines on a canvas of their own, in the colours of now.
function relief(levels, width, height) {
  const values = unpack(levels.values), { columns, rows } = levels;
  const small = document.createElement("canvas");
  small.width = columns;
  small.height = rows;
  const image = small.getContext("2d").createImageData(columns, rows);
  const low = channels(colour("low")), high = channels(colour("high"));
  // dark is high: the eye takes light for the valley; equal shares of the picture for every shade
  const order = Array.from(values).sort((a, b) => a - b);
  const rank = (value) => { let from = 0, to = order.length; while (from < to) { const mid = (from + to) >> 1; order[mid] < value ? (from = mid + 1) : (to = mid); } return from / order.length; };
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) {
      const share = rank(values[row * columns + column]), place = 4 * ((rows - 1 - row) * columns + column);
      for (let c = 0; c < 3; c++) image.data[place + c] = Math.round(low[c] + share * (high[c] - low[c]));
      image.data[place + 3] = 255;
    }
  small.getContext("2d").putImageData(image, 0, 0);
  const full = document.createElement("canvas"), ratio = window.devicePixelRatio || 1;
  full.width = width * ratio;
  full.height = height * ratio;
  const pen = full.getContext("2d");
  pen.scale(ratio, ratio);
  pen.imageSmoothingEnabled = true;
  const dx = width / (columns - 1), dy = height / (rows - 1);
  pen.drawImage(small, -dx / 2, -dy / 2, width + dx, height + dy);
  pen.strokeStyle = colour("contour");
  pen.globalAlpha = 0.55;
  pen.lineWidth = 0.8;
  pen.beginPath();
  const lines = 14;
  for (let k = 1; k < lines; k++) {
    const level = order[Math.floor((k / lines) * (order.length - 1))];
    contour(values, columns, rows, level, (x, y) => [x * dx, height - y * dy], pen);
  }
  pen.stroke();
  return full;
}

// Marching squares: the line where the values cross a level.
function contour(values, columns, rows, level, at, pen) {
  const edges = [[0, 1], [1, 2], [2, 3], [3, 0]], corners = [[0, 0], [1, 0], [1, 1], [0, 1]];
  for (let row = 0; row + 1 < rows; row++)
    for (let column = 0; column + 1 < columns; column++) {
      const found = [], value = corners.map(([x, y]) => values[(row + y) * columns + column + x] - level);
      for (const [a, b] of edges) {
        if (value[a] < 0 === value[b] < 0) continue;
        const share = value[a] / (value[a] - value[b]);
        found.push(at(column + corners[a][0] + share * (corners[b][0] - corners[a][0]), row + corners[a][1] + share * (corners[b][1] - corners[a][1])));
      }
      for (let i = 0; i + 1 < found.length; i += 2) { pen.moveTo(...found[i]); pen.lineTo(...found[i + 1]); }
    }
}
