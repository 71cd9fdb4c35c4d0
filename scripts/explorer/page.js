// The page: it shows an episode, and where there is a server it asks it to play on.

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const live = Boolean(data.choices);
let state = null, name = null, at = 0, share = 0, busy = false, timer = null, background = null;

function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = className;
  return made;
}

// -- the server -------------------------------------------------------------------------------------------------------

async function ask(path, body) {
  const answer = await fetch(path, body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(found.error || `the server answered ${answer.status}`);
  return found;
}

// One request at a time: what a button offers must be what the server's state allows.
let running = Promise.resolve();
function during(work) {
  if (!busy) running = run(work);
  return running;
}

// A choice of a problem or of an episode waits for its turn; a second click on an action is dropped.
async function afterwards(work) {
  while (busy) await running;
  return during(work);
}

async function run(work) {
  busy = true;
  document.body.classList.add("busy");
  try {
    await work();
    say("");
  } catch (error) {
    say(error instanceof TypeError ? "The server does not answer: is scripts/explore.py still running?" : error.message);
  }
  busy = false;
  document.body.classList.remove("busy");
}

const play = (verb, body = {}) => during(async () => {
  const found = await ask(`/api/episodes/${name}/${verb}`, body);
  take(found.state, verb === "turn" || verb === "view");
});

const begin = () => afterwards(async () => {
  const found = await ask("/api/episodes", wish());
  name = found.episode;
  take(found.state, false);
});

function say(text) {
  $("message").textContent = text && text[0].toUpperCase() + text.slice(1) + (text.endsWith(".") || text.endsWith("?") ? "" : ".");
  $("message").hidden = !text;
}

function take(found, keepPlace) {
  stop();
  state = found;
  at = state.course.length - 1;
  if (!keepPlace) share = 0;
  show();
}

// -- what is shown ----------------------------------------------------------------------------------------------------

function show() {
  $("main").hidden = false;
  $("title").textContent = state.problem + ", played by " + (live ? "you" : state.agent || "hand");
  $("sentence").textContent = `${state.sentence}. Instance ${state.instance} of the ${state.split} split, ${state.parameters} parameters, ${state.optimizer}` + (state.symmetry ? `, symmetry ${state.symmetry.replaceAll("_", " ")}.` : ", no symmetry.");
  $("map-card").hidden = !state.levels;
  if (live) showChoices();
  showLog();
  $("at").max = state.course.length - 1;
  showMoment();
}

function showMoment() {
  const now = state.course[at], first = state.course[0];
  $("at").value = at;
  const last = at === state.course.length - 1;
  $("moment").textContent = `${at} of ${state.course.length - 1} actions` + (live && !last ? "; you act from the last one" : "");
  const gained = orders(first.loss) - orders(now.loss);
  const tiles = [
    ["loss", shown(now.loss)],
    ["gradient norm", shown(now.grad_norm)],
    ["learning rate", shown(now.learning_rate)],
    ["orders of magnitude gained", Number.isFinite(gained) ? gained.toFixed(2) : "diverged"],
  ].map(([label, value]) => { const tile = element("div", "", "tile"); tile.append(element("b", value), element("span", label)); return tile; });
  const spent = element("div", "", "tile"), meter = element("div", "", "meter"), bar = element("i");
  bar.style.width = `${Math.min(100, (100 * now.cost) / state.budget)}%`;
  meter.append(bar);
  spent.append(element("b", `${shown(now.cost)} of ${shown(state.budget)}`), element("span", "gradient evaluations" + (live && last && state.over ? `: ${state.over}` : "")), meter);
  $("numbers").replaceChildren(...tiles, spent);
  [...$("log").children].forEach((row) => row.classList.toggle("on", Number(row.dataset.at) === at));
  draw();
}

const orders = (loss) => (loss === null ? NaN : Math.log10(Math.max(loss, state.tolerance)));

function showChoices() {
  const advice = state.advice, chance = (place) => (advice ? advice.probabilities[place] : 0);
  const rate = state.course[state.course.length - 1].learning_rate;
  const choice = (action, place, text, small) => {
    const made = element("button", "", "choice" + (advice && advice.action === place ? " best" : ""));
    made.type = "button";
    made.dataset.action = place;
    made.disabled = Boolean(state.over) || !state.payable[place];
    const bar = element("i");
    bar.style.width = `${100 * chance(place)}%`;
    made.append(bar, element("span", text + (chance(place) > 0.005 ? ` · ${Math.round(100 * chance(place))}%` : "")), element("small", small));
    made.title = !state.payable[place] && !state.over ? "the rest of the budget cannot pay for it" : action.name;
    made.onclick = () => play("act", { action: place });
    return made;
  };
  const indexed = state.actions.map((action, place) => [action, place]);
  const many = state.steps_per_action;
  $("step-what").textContent = `multiplies the learning rate for good, then takes ${many === 1 ? "one step" : `${many} steps`}; the new rate is below`;
  const steps = indexed.filter(([action]) => action.factor !== null).sort((a, b) => a[0].factor - b[0].factor);
  $("steps").replaceChildren(...steps.map(([action, place]) => choice(action, place, `×${shown(action.factor)}`, shown(rate * action.factor))));
  const teleports = indexed.filter(([action]) => action.factor === null);
  $("teleports").replaceChildren(...teleports.map(([action, place]) => choice(action, place, action.name.replace("teleport: ", ""), `costs at most ${shown(action.price)}`)));
  if (!teleports.length) $("teleports").append(element("p", "No teleport is on the menu.", "note"));
  $("advice").textContent = state.over ? `The episode is over: ${state.over}.` : advice ? `${state.agent} suggests: ${state.actions[advice.action].name}.` : "No agent advises. Choose an agent above to get advice.";
  $("undo").disabled = !state.undo;
  $("follow").disabled = $("finish").disabled = !advice;
  $("export").href = `/api/episodes/${name}/export`;
  $("whole").classList.toggle("on", !state.near);
  $("near").classList.toggle("on", state.near);
  const hand = state.level_set;
  $("hand").hidden = !hand;
  $("map").classList.toggle("pick", Boolean(hand && hand.points));
  $("no-hand").hidden = Boolean(hand) || Boolean(state.over);
  $("no-hand").textContent = `No slider here: ${state.no_hand}.`;
  if (!hand) return;
  $("hand-what").textContent = { turn: "choose the angle of the rotation", ascent: "along the direction in which the gradient norm grows fastest", random: "along a random direction" }[hand.direction];
  $("ascent").hidden = $("random").hidden = hand.direction === "turn";
  $("ascent").classList.toggle("on", hand.direction === "ascent");
  $("random").classList.toggle("on", hand.direction === "random");
  $("share").value = share;
}

function showLog() {
  const rows = state.course.map((entry, place) => {
    const row = element("tr"), what = element("td", entry.name.replace("teleport: ", "⤳ "));
    row.dataset.at = place;
    if (entry.words && !entry.moved) what.append(element("em", entry.words));
    row.append(element("td", String(place)), what, element("td", shown(entry.loss)), element("td", shown(entry.grad_norm)), element("td", shown(entry.cost)));
    row.onclick = () => { stop(); at = place; showMoment(); };
    return row;
  });
  $("log").replaceChildren(...rows.reverse());
}

// -- pictures ---------------------------------------------------------------------------------------------------------

function draw() {
  if (!state) return;
  const past = state.course.slice(0, at + 1), all = state.course, now = state.course[at];
  const marks = past.filter((entry) => entry.moved).map((entry) => entry.cost);
  const high = Math.max(all[all.length - 1].cost, live ? Math.min(state.budget, 2 * all[all.length - 1].cost) : 0, 2);
  for (const [id, field, paint] of [["loss", "loss", "step"], ["norm", "grad_norm", "orbit"]])
    plot($(id), {
      lines: [
        ...(at < all.length - 1 ? [{ points: all.map((entry) => [entry.cost, entry[field]]), colour: colour("line") }] : []),
        { points: past.map((entry) => [entry.cost, entry[field]]), colour: colour(paint), dots: past.length < 60 },
      ],
      low: 0, high, marks, here: [now.cost, now[field]],
    });
  const hand = live && state.level_set;
  if (hand) drawOrbit(hand);
  if (state.levels) drawMap(past, hand && at === all.length - 1 ? hand : null);
}

function nearest(hand) {
  return Math.round(((share + 1) / 2) * (hand.shares.length - 1));
}

function drawOrbit(hand) {
  const place = nearest(hand), norm = hand.grad_norm[place];
  const points = hand.shares.map((one, k) => [one * hand.length, hand.refused[k] ? null : hand.grad_norm[k]]);
  plot($("orbit"), { lines: [{ points, colour: colour("orbit") }], low: -hand.length, high: hand.length, here: [hand.shares[place] * hand.length, norm], label: (x) => shown(x) });
  const before = state.course[state.course.length - 1].grad_norm;
  const where = hand.points && hand.points[place].every((one) => one !== null) ? ` at (${hand.points[place].map((one) => shown(one)).join(", ")})` : "";
  $("hand-where").textContent = hand.refused[place] ? `It would be ${hand.refused[place]}.` : `Gradient norm ${shown(norm)}${where}, ${shown(norm / before)} times the present norm. Costs at most ${shown(hand.price)} gradient evaluations.`;
  $("move").disabled = Boolean(state.over) || share === 0;
}

function drawMap(past, hand) {
  const canvas = $("map"), levels = state.levels, { pen, width, height } = sheet(canvas);
  if (!width) return;
  const key = [levels.values, width, height, document.documentElement.dataset.theme].join();
  if (!background || background.key !== key) background = { key, picture: relief(levels, width, height) };
  pen.drawImage(background.picture, 0, 0, width, height);
  const place = (point) => point && point.every((one) => one !== null) ? [((point[0] - levels.low[0]) / (levels.high[0] - levels.low[0])) * width, (1 - (point[1] - levels.low[1]) / (levels.high[1] - levels.low[1])) * height] : null;
  const line = (points, paint, dash = [], thick = 2) => {
    pen.strokeStyle = paint;
    pen.setLineDash(dash);
    pen.lineWidth = thick;
    pen.beginPath();
    let down = false;
    for (const point of points) { if (!point) { down = false; continue; } down ? pen.lineTo(...point) : pen.moveTo(...point); down = true; }
    pen.stroke();
    pen.setLineDash([]);
  };
  const disc = (point, radius, fill) => {
    pen.beginPath(); pen.arc(point[0], point[1], radius, 0, 7); pen.fillStyle = fill; pen.fill();
    pen.lineWidth = 1.5; pen.strokeStyle = colour("card"); pen.stroke();
  };
  if (hand && hand.points) line(hand.points.map(place), colour("orbit"), [], 1.6);
  for (let i = 1; i < past.length; i++) {
    const ends = [place(past[i - 1].point), place(past[i].point)];
    line(ends, colour(past[i].moved ? "jump" : "step"), past[i].moved ? [6, 4] : []);
    if (ends[1] && !past[i].moved) { pen.beginPath(); pen.arc(...ends[1], 2.2, 0, 7); pen.fillStyle = colour("step"); pen.fill(); }
  }
  const minimum = place(levels.minimum), now = place(past[past.length - 1].point), start = place(past[0].point);
  if (minimum) { pen.fillStyle = colour("gold"); pen.font = "22px system-ui, sans-serif"; pen.textAlign = "center"; pen.textBaseline = "middle"; pen.fillText("★", ...minimum); }
  if (start) disc(start, 5, colour("soft"));
  if (hand && hand.points && share !== 0 && now) {
    const target = place(hand.points[nearest(hand)]);
    if (target) { line([now, target], colour("jump"), [2, 4], 1.5); disc(target, 6, colour("orbit")); }
  }
  if (now) disc(now, 6.5, colour("jump"));
  pen.fillStyle = colour("text");
  pen.font = "11px system-ui, sans-serif";
  pen.textBaseline = "alphabetic";
  pen.textAlign = "left";
  pen.fillText(`w1 from ${shown(levels.low[0])} to ${shown(levels.high[0])}, w2 from ${shown(levels.low[1])} to ${shown(levels.high[1])}`, 8, height - 8);
}

// A click on the map moves the slider to the nearest point of the current level set.
function pick(event) {
  const hand = state.level_set, { low, high } = state.levels;
  if (!hand || !hand.points) return;
  const box = $("map").getBoundingClientRect(), x = (event.clientX - box.left) / box.width, y = 1 - (event.clientY - box.top) / box.height;
  const far = (point) => point.some((one) => one === null) ? Infinity : Math.hypot((point[0] - low[0]) / (high[0] - low[0]) - x, (point[1] - low[1]) / (high[1] - low[1]) - y);
  const found = hand.points.map(far);
  share = hand.shares[found.indexOf(Math.min(...found))];
  $("share").value = share;
  draw();
}

// -- the course as a film -----------------------------------------------------------------------------------------------

function stop() {
  clearInterval(timer);
  timer = null;
  $("play").textContent = "Play";
}

function film() {
  if (timer) return stop();
  if (at === state.course.length - 1) at = 0;
  $("play").textContent = "Pause";
  timer = setInterval(() => {
    if (at >= state.course.length - 1) return stop();
    at += 1;
    showMoment();
  }, Math.max(40, Math.min(300, 12000 / state.course.length)));
}

// -- beginning ----------------------------------------------------------------------------------------------------------

function theme(which) {
  document.documentElement.dataset.theme = which;
  draw();
}

function fill(select, values, chosen, none) {
  const options = values.map((value) => new Option(value, value, false, value === chosen));
  select.replaceChildren(...(none ? [new Option(none, "")] : []), ...options);
}

async function offer(problem, agent) {
  const found = await ask(`/api/problems/${encodeURIComponent(problem)}`);
  const wanted = found.agents.includes(agent) ? agent : found.agents.includes("learned schedule") ? "learned schedule" : "";
  fill($("agent"), found.agents, wanted, "none");
}

function wish() {
  const number = (id) => ($(id).value === "" ? null : Number($(id).value));
  return { problem: $("problem").value, agent: $("agent").value || null, split: $("split").value, seed: number("seed") || 0, instance: number("instance") };
}

theme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
$("theme").onclick = () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
$("play").onclick = film;
$("at").oninput = () => { stop(); at = Number($("at").value); showMoment(); };
addEventListener("resize", draw);

if (live) {
  const { problems, splits, first } = data.choices;
  $("begin").hidden = false;
  fill($("problem"), problems, first.problem);
  fill($("split"), splits, first.split);
  $("seed").value = first.seed;
  if (first.instance !== null) $("instance").value = first.instance;
  $("problem").onchange = () => afterwards(() => offer($("problem").value, $("agent").value));
  $("begin").onsubmit = (event) => { event.preventDefault(); begin(); };
  $("share").oninput = () => { share = Number($("share").value); draw(); };
  $("map").onclick = pick;
  $("move").onclick = () => play("move", { along: share });
  $("ascent").onclick = () => play("turn", { direction: "ascent" });
  $("random").onclick = () => play("turn", { direction: "random" });
  $("whole").onclick = () => play("view", { near: false });
  $("near").onclick = () => play("view", { near: true });
  $("undo").onclick = () => play("undo");
  $("follow").onclick = () => state.advice && play("act", { action: state.advice.action });
  $("finish").onclick = () => play("finish");
  during(() => offer(first.problem, first.agent)).then(begin);
} else {
  $("main").classList.add("played");
  $("act-card").hidden = true;
  document.querySelector("#map-card .tools").hidden = true;
  $("orbit-key").hidden = true;
  take(data.episode, false);
  at = 0;
  film();
}
