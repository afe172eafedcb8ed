'use strict';
/* The page of launch.play. It draws what the server says, and says what is
   pressed; all that is known of the game and the dream is known there. */

const KEYS = {up: 1, down: 2, left: 4, right: 8, fire: 16};
const CODES = {
  ArrowUp: 'up', KeyW: 'up', ArrowDown: 'down', KeyS: 'down',
  ArrowLeft: 'left', KeyA: 'left', ArrowRight: 'right', KeyD: 'right',
  Space: 'fire',
};
const GLYPHS = {
  UP: '↑', RIGHT: '→', LEFT: '←', DOWN: '↓', UPRIGHT: '↗', UPLEFT: '↖',
  DOWNRIGHT: '↘', DOWNLEFT: '↙',
};
const element = id => document.getElementById(id);
const token = new URLSearchParams(location.search).get('token');

const page = {
  socket: null, session: sessionStorage.getItem('session') || '',
  wait: 500, over: false, hello: null, settings: null, received: 0,
  keys: new Map(), touches: 0, said: 0, spent: 0,
  course: [], range: null, times: [], resume: false, plan: '',
};

function query(values) {
  const all = new URLSearchParams(values);
  if (token) all.set('token', token);
  return all.toString();
}

function send(message) {
  if (page.socket && page.socket.readyState === WebSocket.OPEN) {
    page.socket.send(JSON.stringify(message));
  }
}

/* The connection: it comes back by itself, to the session that it was. */
function connect() {
  const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
  const values = page.session ? {session: page.session} : {};
  const socket = new WebSocket(
    `${scheme}//${location.host}/play?${query(values)}`);
  socket.binaryType = 'arraybuffer';
  page.socket = socket;
  page.received = 0;
  socket.onmessage = event => {
    if (typeof event.data === 'string') hear(JSON.parse(event.data));
    else show(event.data);
  };
  socket.onclose = event => {
    if (page.socket !== socket) return;
    if (event.code === 4001 || event.code === 1008) {
      state('off', event.reason || 'refused');
      return;
    }
    state('lost', event.code === 1013 ? event.reason : 'reconnecting');
    setTimeout(connect, page.wait);
    page.wait = Math.min(2 * page.wait, 8000);
  };
}

function hear(message) {
  if (message.hello) greet(message.hello);
  if (message.settings) settle(message.settings);
  if (message.note) note(message.note);
  if (message.error) note(message.error);
}

function greet(hello) {
  page.hello = hello;
  page.session = hello.session;
  page.wait = 500;
  sessionStorage.setItem('session', hello.session);
  state('on', 'connected');
  element('agent').textContent = hello.agent;
  const frames = hello.context === 1 ? 'frame' : 'frames';
  element('about').textContent =
    `The agent sees the last ${hello.context} ${frames}; a dream begins with ` +
    'them and is then on its own. Every page plays by itself.';
  const games = element('game');
  games.replaceChildren(...hello.games.map(game => new Option(game)));
  games.disabled = hello.games.length < 2;
  element('horizon').max = hello.max_horizon;
  element('horizon').disabled = hello.max_horizon < 2;
  element('width').max = hello.max_width;
}

/* What is set. */
const SAY = {
  speed: value => `${Math.round(value)} a second`,
  temperature: value => value ? `temperature ${value.toFixed(2)}` : 'likeliest',
  branch_every: value => value ? `every ${value} decisions` : 'by hand',
  width: value => value,
  horizon: value => value,
};

function settle(settings) {
  const before = page.settings;
  page.settings = settings;
  element('game').value = settings.game;
  for (const [name, say] of Object.entries(SAY)) {
    if (document.activeElement !== element(name)) {
      element(name).value = settings[name];
    }
    element(`${name}-said`).textContent = say(Number(settings[name]));
  }
  for (const button of document.querySelectorAll('[data-player]')) {
    const chosen = button.dataset.player === settings.player;
    button.setAttribute('aria-checked', chosen);
    button.tabIndex = chosen ? 0 : -1;
  }
  const on = settings.dream_on;
  element('dream-on').setAttribute('aria-pressed', on);
  element('dream-on').textContent = on ? 'Back to the game' : 'Dream on';
  document.body.toggleAttribute('data-alone', on);
  element('toggle').textContent = settings.playing ? 'Pause' : 'Play';
  element('start').hidden = settings.playing;
  if (!before || before.game !== settings.game) {
    page.range = null;
    page.course = [];
    rows(settings.legal);
  }
  element('branches').hidden = settings.player !== 'planning';
  if (settings.player !== 'planning') {
    page.plan = '';
    element('strips').replaceChildren();
  }
}

function name(action) {
  const word = page.hello.actions[action];
  if (word === 'NOOP') return 'no-op';
  const fire = word.endsWith('FIRE');
  const way = fire ? word.slice(0, -4) : word;
  return [GLYPHS[way], fire ? 'fire' : ''].filter(Boolean).join(' ');
}

function words(action) {
  const short = name(action);
  if (short.endsWith('fire') || short === 'no-op') return short;
  const word = page.hello.actions[action].toLowerCase();
  return `${short} ${word.replace(/^(up|down)(?=.)/, '$1 ')}`;
}

function rows(legal) {
  const bars = element('bars');
  bars.style.setProperty('--row', `${Math.min(1.75, 17.3 / legal.length)}rem`);
  bars.replaceChildren(...legal.map(action => {
    const row = document.createElement('li');
    const label = document.createElement('span');
    label.textContent = words(action);
    row.append(label, document.createElement('i'),
      document.createElement('output'));
    return row;
  }));
}

/* A decision. */
function show(data) {
  page.received += 1;
  const size = new DataView(data).getUint32(0, true);
  const told = JSON.parse(
    new TextDecoder().decode(new Uint8Array(data, 4, size)));
  const frame = i => new Uint8Array(data, 4 + size + i * PIXELS, PIXELS);
  paint(element('real'), frame(0), PLAIN);
  paint(element('dream'), frame(1), DREAMY);
  say(told);
  drawBars(told);
  if (told.plan) drawBranches(told.plan, i => frame(2 + i));
  follow(told);
  send({seen: page.received});
}

function say(told) {
  element('real-said').textContent = told.dream_on ? 'waits' :
    `score ${told.score.toLocaleString('en')}`;
  const steps = told.dream.steps === 1 ? 'step' : 'steps';
  element('dream-said').textContent = told.dream.steps ?
    `${signed(told.dream.score)} in ${told.dream.steps} ${steps}` :
    'begins here';
  const real = element('real-mark');
  real.hidden = !told.over;
  real.textContent = 'game over';
  const dream = element('dream-mark');
  dream.hidden = !told.dream.over;
  dream.textContent = told.dream_on ? 'dreamed its end: branch anew' :
    'dreamed its end';
  element('chosen').textContent =
    told.action === null ? '' : words(told.action);
  if (told.action !== null) {
    const now = performance.now();
    page.times.push(now);
    while (now - page.times[0] > 2000) page.times.shift();
    const rate = page.times.length > 3 ?
      1000 * (page.times.length - 1) / (now - page.times[0]) : 0;
    page.spent = page.spent ?
      .9 * page.spent + .1 * told.milliseconds : told.milliseconds;
    const most = 1000 / Math.max(page.spent, 1);
    if (rate) {
      state('on', `${rate.toFixed(0)} a second, up to ${most.toFixed(0)}`);
    }
  }
}

/* The curve of the last decisions. */
function follow(told) {
  while (page.course.length && page.course.at(-1).number >= told.number) {
    page.course.pop();  // rewound, or shown again
  }
  if (told.action !== null) page.course.push(told);
  if (page.course.length > SHOWN) page.course.shift();
  const percent = value => value === null ? '–' : `${Math.round(100 * value)} %`;
  element('accuracy').textContent = percent(told.accuracy);
  element('error').textContent =
    told.error === null ? '–' : `${(100 * told.error).toFixed(1)} %`;
  drawCourse();
}

/* What is said below, and above. */
let fading = 0;
function note(text) {
  element('note').textContent = text;
  element('note').hidden = false;
  clearTimeout(fading);
  fading = setTimeout(() => { element('note').hidden = true; }, 4500);
}

function state(which, text) {
  element('status').dataset.state = which;
  element('status-text').textContent = text;
}

/* What is pressed. */
function held() {
  let mask = page.touches;
  for (const key of page.keys.values()) mask |= KEYS[key];
  return mask;
}

function press() {
  const mask = held();
  const fresh = mask & ~page.said;
  page.said = mask;
  send(fresh ? {held: mask, pressed: fresh} : {held: mask});
}

function begin() {
  if (page.settings && !page.settings.playing) act('play');
}

function act(deed) { send({do: deed}); }
function set(changes) { send({set: changes}); }

addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.closest('select, input');
  const key = CODES[event.code];
  if (key && !typing) {
    event.preventDefault();
    if (event.repeat) return;
    page.keys.set(event.code, key);
    press();
    begin();
    return;
  }
  if (typing || event.repeat) return;
  const deeds = {KeyB: 'branch', KeyR: 'rewind'};
  if (event.code in deeds) act(deeds[event.code]);
  else if (event.code === 'KeyN') element('dream-on').click();
  else if (event.code === 'Enter' && event.target === document.body) {
    element('toggle').click();
  }
});
addEventListener('keyup', event => {
  if (page.keys.delete(event.code)) press();
});
addEventListener('blur', () => {
  page.keys.clear();
  page.touches = 0;
  press();
});
// Nobody looks: the work stops, and goes on when somebody does.
document.addEventListener('visibilitychange', () => {
  if (document.hidden) {
    page.resume = Boolean(page.settings && page.settings.playing);
    if (page.resume) act('pause');
  } else if (page.resume) {
    act('play');
  }
});
addEventListener('resize', drawCourse);
matchMedia('(prefers-color-scheme: dark)').addEventListener(
  'change', drawCourse);

element('toggle').onclick = () =>
  act(page.settings && page.settings.playing ? 'pause' : 'play');
element('start').onclick = begin;
element('dream-on').onclick = () =>
  act(page.settings.dream_on ? 'dream_off' : 'dream_on');
element('game').onchange = event => {
  set({game: event.target.value});
  event.target.blur();
};
for (const button of document.querySelectorAll('[data-do]')) {
  button.onclick = () => act(button.dataset.do);
}
for (const button of document.querySelectorAll('.deeds button, .choice button')) {
  // So that the space bar fires afterwards, and does not press it again.
  button.addEventListener('click', event => {
    if (event.detail) button.blur();
  });
}
for (const button of document.querySelectorAll('[data-player]')) {
  button.onclick = () => set({player: button.dataset.player});
}
document.querySelector('.choice').addEventListener('keydown', event => {
  const way = {ArrowRight: 1, ArrowLeft: -1}[event.code];
  if (!way) return;
  event.preventDefault();
  event.stopPropagation();
  const all = [...event.currentTarget.children];
  const next = all.indexOf(document.activeElement) + way;
  const button = all[(next + all.length) % all.length];
  button.focus();
  button.click();
});
for (const [key, say] of Object.entries(SAY)) {
  const input = element(key);
  input.oninput = () => {
    element(`${key}-said`).textContent = say(Number(input.value));
  };
  input.onchange = () => {
    set({[key]: Number(input.value)});
    input.blur();
  };
}

/* The pad: where a finger is on the cross says which way. */
function steer(event) {
  const cross = element('cross');
  const box = cross.getBoundingClientRect();
  const x = (event.clientX - box.left) / box.width - .5;
  const y = (event.clientY - box.top) / box.height - .5;
  let mask = 0;
  if (Math.hypot(x, y) > .12) {
    const eighth = Math.round(Math.atan2(y, x) / (Math.PI / 4)) + 4;
    mask = [4, 5, 1, 9, 8, 10, 2, 6, 4][eighth];
  }
  point(mask);
}

function point(mask) {
  page.touches = page.touches & KEYS.fire | mask;
  for (const way of ['up', 'down', 'left', 'right']) {
    document.querySelector(`.cross .${way}`).classList.toggle(
      'on', Boolean(mask & KEYS[way]));
  }
  press();
}

const cross = element('cross');
cross.addEventListener('pointerdown', event => {
  cross.setPointerCapture(event.pointerId);
  steer(event);
  begin();
});
cross.addEventListener('pointermove', event => {
  if (cross.hasPointerCapture(event.pointerId)) steer(event);
});
for (const end of ['pointerup', 'pointercancel']) {
  cross.addEventListener(end, () => point(0));
}
const fire = element('fire');
function shoot(on) {
  page.touches = page.touches & ~KEYS.fire | (on ? KEYS.fire : 0);
  fire.classList.toggle('on', on);
  press();
}
fire.addEventListener('pointerdown', event => {
  fire.setPointerCapture(event.pointerId);
  shoot(true);
  begin();
});
for (const end of ['pointerup', 'pointercancel']) {
  fire.addEventListener(end, () => shoot(false));
}
element('pad').addEventListener('contextmenu', event => event.preventDefault());

/* Downloads. */
async function save(button) {
  const file = button.dataset.save;
  button.disabled = true;
  if (file === 'film.mp4') note('Filming the last minute …');
  try {
    const answer = await fetch(`${file}?${query({session: page.session})}`);
    if (!answer.ok) throw new Error((await answer.text()).trim());
    const given = answer.headers.get('Content-Disposition');
    const link = document.createElement('a');
    link.href = URL.createObjectURL(await answer.blob());
    link.download = /filename="(.*)"/.exec(given)[1];
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    note(file === 'film.mp4' ? `Saved ${link.download}` :
      `Saved ${link.download}: launch.collect --replay=${link.download} ` +
      'makes data of it');
  } catch (error) {
    note(String(error.message || error));
  }
  button.disabled = false;
}
for (const button of document.querySelectorAll('[data-save]')) {
  button.onclick = () => save(button);
}

connect();
