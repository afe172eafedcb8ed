'use strict';
/* What the page of launch.play draws: frames, values of actions, branches of a
   plan and the curve of the last decisions. Loaded before play.js. */

const SIDE = 84;
const PIXELS = SIDE * SIDE;
const SHOWN = 300;  // decisions of the curve

const DREAMY = new Uint32Array(256);
const PLAIN = new Uint32Array(256);
for (let grey = 0; grey < 256; grey++) {
  const share = grey / 255;
  // Little-endian: alpha, blue, green, red.
  PLAIN[grey] = 0xff000000 | grey << 16 | grey << 8 | grey;
  DREAMY[grey] = (0xff000000 | Math.round(22 + 233 * share) << 16 |
    Math.round(12 + 222 * share) << 8 | Math.round(16 + 232 * share)) >>> 0;
}

function paint(canvas, frame, colors) {
  const image = new ImageData(SIDE, SIDE);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < PIXELS; i++) pixels[i] = colors[frame[i]];
  canvas.getContext('2d').putImageData(image, 0, 0);
}

function decimal(value) {
  const text = value.toFixed(2).replace('-', '−');
  return text === '−0.00' ? '0.00' : text;
}

function signed(value) {
  return `${value < 0 ? '−' : '+'}${Math.abs(value).toLocaleString('en')}`;
}

function drawBars(told) {
  const q = told.q;
  const low = Math.min(...q), high = Math.max(...q);
  const range = page.range || {low, high};
  // It follows quickly outwards and slowly inwards, so that bars do not jump.
  range.low = low < range.low ? low : range.low + .01 * (low - range.low);
  range.high = high > range.high ? high : range.high + .01 * (high - range.high);
  page.range = range;
  let from = range.low - .08 * (range.high - range.low), to = range.high;
  if (from > 0 && from < to - from) from = 0;
  if (to < 0 && -to < to - from) to = 0;
  const place = value => 100 * (value - from) / Math.max(to - from, 1e-6);
  const zero = Math.min(Math.max(place(0), 0), 100);
  [...element('bars').children].forEach((row, i) => {
    const at = place(q[i]);
    row.classList.toggle('taken', page.settings.legal[i] === told.action);
    row.children[1].style.setProperty('--from', `${Math.min(at, zero)}%`);
    row.children[1].style.setProperty('--long', `${Math.abs(at - zero)}%`);
    row.children[2].textContent = decimal(q[i]);
  });
}

function drawBranches(plan, frame) {
  const strips = element('strips');
  const shape = `${plan.paths.length} ${(plan.paths[0] || []).length}`;
  if (shape !== page.plan) {
    page.plan = shape;
    strips.replaceChildren(...plan.paths.map(path => {
      const strip = document.createElement('div');
      strip.className = 'strip';
      const label = document.createElement('span');
      label.append('worth', document.createElement('b'));
      strip.append(label, ...path.map(() => {
        const figure = document.createElement('figure');
        const canvas = document.createElement('canvas');
        canvas.width = canvas.height = SIDE;
        const caption = document.createElement('figcaption');
        caption.append(document.createElement('span'),
          document.createElement('span'));
        figure.append(canvas, caption);
        return figure;
      }));
      return strip;
    }));
  }
  plan.paths.forEach((path, branch) => {
    const strip = strips.children[branch];
    strip.querySelector('b').textContent = decimal(plan.scores[branch]);
    path.forEach((action, step) => {
      const figure = strip.children[1 + step];
      paint(figure.firstChild, frame(branch * path.length + step), DREAMY);
      const [label, reward] = figure.lastChild.children;
      label.textContent = name(action);
      const value = plan.rewards[branch][step];
      reward.textContent = value ? signed(value) : '';
      reward.className = value > 0 ? 'won' : 'lost';
    });
  });
}

/* The curve of the last decisions. */
function drawCourse() {
  const canvas = element('course');
  const style = getComputedStyle(document.documentElement);
  const color = name => style.getPropertyValue(`--${name}`);
  const ratio = devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const draw = canvas.getContext('2d');
  draw.setTransform(ratio, 0, 0, ratio, 0, 0);
  draw.clearRect(0, 0, width, height);
  draw.font = `11px ${style.getPropertyValue('--sans')}`;
  const left = 46, right = width - 44, top = 6, bottom = height - 48;
  const x = i => left + (right - left) * i / (SHOWN - 1);
  const y = share => bottom - (bottom - top) * share;
  draw.textBaseline = 'middle';
  draw.fillStyle = color('soft');
  draw.strokeStyle = color('rule');
  draw.lineWidth = 1;
  for (const share of [0, .5, 1]) {
    draw.beginPath();
    draw.moveTo(left, y(share) + .5);
    draw.lineTo(right, y(share) + .5);
    draw.stroke();
    draw.fillText(`${100 * share} %`, right + 6, y(share));
  }
  const lanes = {game: height - 26, dream: height - 9};
  for (const [word, at] of Object.entries(lanes)) {
    draw.fillStyle = color('soft');
    draw.fillText(word, 0, at);
    draw.fillStyle = color('shade');
    draw.fillRect(left, at - 6, right - left, 12);
  }
  const course = page.course;
  course.forEach((told, i) => {
    if (told.dream.steps === 1) {
      draw.fillStyle = color('dream');
      draw.globalAlpha = .35;
      draw.fillRect(x(i), top, 1, bottom - top);
      draw.globalAlpha = 1;
    }
    const marks = [
      [told.reward, told.over, lanes.game],
      [told.dream.reward, told.dream.end > .5, lanes.dream],
    ];
    for (const [reward, end, at] of marks) {
      if (reward) {
        draw.fillStyle = color(reward > 0 ? 'good' : 'bad');
        draw.fillRect(x(i) - 1, at - 6, 2, 12);
      }
      if (end) {
        draw.fillStyle = color('ink');
        draw.fillRect(x(i) - 1.5, at - 6, 3, 12);
      }
    }
  });
  line(draw, course, x, told => told.error === null ? null :
    y(Math.min(1, 4 * told.error)), color('soft'), [2, 3]);
  line(draw, course, x, told => told.accuracy === null ? null :
    y(told.accuracy), color('dream'), []);
}

function line(draw, course, x, place, color, dashes) {
  draw.strokeStyle = color;
  draw.lineWidth = dashes.length ? 1 : 1.8;
  draw.setLineDash(dashes);
  draw.beginPath();
  let open = false;
  course.forEach((told, i) => {
    const at = place(told);
    if (at === null) { open = false; return; }
    if (open && told.dream.steps !== 1) draw.lineTo(x(i), at);
    else draw.moveTo(x(i), at);
    open = true;
  });
  draw.stroke();
  draw.setLineDash([]);
}
