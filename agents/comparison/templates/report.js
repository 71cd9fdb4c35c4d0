"use strict";
(() => {
  const root = document.documentElement;
  const by = (id) => document.getElementById(id);
  const ink = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  let redraw = () => {};

  // light and dark: what the system says until the reader chooses
  const system = matchMedia("(prefers-color-scheme: dark)");
  const paint = (theme) => {
    root.dataset.theme = theme;
    by("theme").textContent = theme === "dark" ? "Light" : "Dark";
    redraw();
  };
  by("theme").addEventListener("click", () => paint(root.dataset.theme === "dark" ? "light" : "dark"));
  system.addEventListener("change", () => paint(system.matches ? "dark" : "light"));
  by("theme").hidden = false;

  // -- curves ---------------------------------------------------------------------------------------------------------
  const data = JSON.parse(by("charts-data").textContent);
  const figure = (value) => (value === null || value === undefined ? "–" : String(Number(value.toPrecision(3))).replace("-", "−"));
  const share = (value) => (value === null ? "–" : `${(100 * value).toFixed(0)} %`);
  const VIEWS = {
    loss: {
      title: "Loss", x: "gradient evaluations", y: "log₁₀ loss / initial loss", value: figure,
      about: "Median loss against compute, relative to the start. Lower is better. Bands: quartiles over episodes.",
    },
    reached: {
      title: "Targets reached by cost", x: "gradient evaluations", y: "share of targets reached", value: share, log: true,
      about: "Share of targets reached within a cost (ECDF); one target per fifth of an order of magnitude of the loss. Higher is better.",
    },
    time: {
      title: "Targets reached by processor time", x: "processor seconds", y: "share of targets reached", value: share, log: true,
      about: "The same share within processor seconds of one run by itself, on one thread. Higher is better.",
    },
    expected: {
      title: "Expected cost per target", x: "orders of magnitude gained", y: "expected gradient evaluations", value: figure,
      logY: true,
      about: "Expected cost to each target: all cost spent over the number of episodes that reach it, among those that have it. Lower is better. A curve ends where no episode gets further.",
    },
  };
  const names = Object.keys(data);
  const fill = (select, entries) => {
    const kept = select.value;
    select.replaceChildren(...entries.map(([value, text]) => new Option(text, value)));
    if (entries.some(([value]) => value === kept)) select.value = kept;
  };
  const chosen = {}; // agent -> whether its curve is shown, where the reader has said so
  const shown = (agent) => chosen[agent.name] ?? agent.on;
  const colour = (agent) => (agent.colour === "#111111" ? ink("--ink") : agent.colour);
  const asides = ["reference", "structure", "oracle"];
  let plot = null;

  const draw = () => {
    const problem = data[by("problem").value];
    const view = problem.views[by("view").value];
    const look = VIEWS[by("view").value];
    const agents = problem.agents.filter((agent) => view.y[agent.name] && shown(agent));
    by("view-about").textContent = look.about;
    const columns = [view.x];
    const series = [{}];
    const bands = [];
    for (const agent of agents) {
      const strong = agent.kind === "learned" || agent.colour === "#111111";
      columns.push(view.y[agent.name]);
      series.push({
        label: agent.name, stroke: colour(agent), width: strong ? 2.5 : 1.6, points: { show: false }, agent,
        dash: asides.includes(agent.kind) ? [6, 4] : undefined, spanGaps: false,
      });
    }
    for (const agent of agents.filter((one) => view.low && view.low[one.name])) {
      columns.push(view.high[agent.name], view.low[agent.name]);
      bands.push({ series: [columns.length - 2, columns.length - 1], fill: colour(agent) + "22" });
      for (let side = 0; side < 2; side += 1) series.push({ width: 0, stroke: "transparent", points: { show: false } });
    }
    const axis = (label, size) => ({
      label, labelSize: 22, size, stroke: ink("--soft"), grid: { stroke: ink("--rule"), width: 1 },
      ticks: { stroke: ink("--rule"), width: 1 }, font: "12px system-ui, sans-serif", labelFont: "12px system-ui, sans-serif",
    });
    const decades = (u, splits) => splits.map((v) => (v > 0 && Math.abs(Math.log10(v) - Math.round(Math.log10(v))) < 1e-6 ? v : null));
    const numbers = (u, values) => values.map((v) => (v === null ? "" : String(Number(v.toPrecision(4))).replace("-", "−")));
    const x = { ...axis(look.x, 34), values: numbers };
    const y = { ...axis(look.y, 52), values: numbers };
    if (look.log) x.filter = view.x[view.x.length - 1] / view.x[0] > 50 ? decades : (u, splits) => splits;
    if (look.logY) y.filter = decades;
    if (look.value === share) y.values = (u, values) => values.map((v) => (v === null ? "" : `${Math.round(100 * v)} %`));
    if (plot) plot.destroy();
    by("tip").hidden = true;
    plot = new uPlot({
      width: by("chart").clientWidth, height: by("chart").clientWidth < 600 ? 320 : 400,
      scales: {
        x: { time: false, distr: look.log ? 3 : 1, range: [view.x[0], view.x[view.x.length - 1]] },
        y: { distr: look.logY ? 3 : 1, ...(look.value === share ? { range: [0, 1.02] } : {}) },
      },
      axes: [x, y], series, bands, legend: { show: false }, cursor: { drag: { x: false, y: false }, points: { size: 6 } },
      hooks: { setCursor: [(u) => hover(u, agents, view, look)] },
    }, columns, by("chart"));
  };

  const hover = (u, agents, view, look) => {
    const tip = by("tip");
    const { idx, left, top } = u.cursor;
    tip.hidden = idx === null || idx === undefined || left < 0 || agents.length === 0;
    if (tip.hidden) return;
    const rows = agents.map((agent) => [agent, view.y[agent.name][idx]]).filter(([, value]) => value !== null);
    const down = look.value !== share;
    rows.sort((one, other) => (down ? one[1] - other[1] : other[1] - one[1]));
    const head = document.createElement("div");
    head.textContent = `${figure(view.x[idx])} ${look.x}`;
    tip.replaceChildren(head, ...rows.slice(0, 12).map(([agent, value]) => {
      const line = document.createElement("div");
      const dot = document.createElement("i");
      dot.style.background = colour(agent);
      line.append(dot, `${look.value(value)}  ${agent.name}`);
      return line;
    }));
    const width = by("chart").clientWidth;
    const at = left + 70 + tip.offsetWidth > width ? left + 40 - tip.offsetWidth : left + 70;
    tip.style.left = `${Math.max(0, at)}px`;
    tip.style.top = `${Math.max(0, top - 10)}px`;
  };

  const chips = () => {
    const problem = data[by("problem").value];
    const view = problem.views[by("view").value];
    by("chips").replaceChildren(...problem.agents.filter((agent) => view.y[agent.name]).map((agent) => {
      const chip = document.createElement("button");
      chip.type = "button";
      chip.textContent = agent.name;
      chip.title = `${agent.kind}: click to show or hide`;
      chip.style.setProperty("--chip", colour(agent));
      chip.setAttribute("aria-pressed", String(shown(agent)));
      chip.addEventListener("click", () => {
        chosen[agent.name] = !shown(agent);
        chip.setAttribute("aria-pressed", String(chosen[agent.name]));
        draw();
      });
      return chip;
    }));
  };

  const begin = () => {
    const views = data[by("problem").value].views;
    fill(by("view"), Object.keys(VIEWS).filter((name) => views[name]).map((name) => [name, VIEWS[name].title]));
    chips();
    draw();
  };
  const all = (value) => {
    for (const problem of Object.values(data)) {
      for (const agent of problem.agents) {
        if (value === null) delete chosen[agent.name];
        else chosen[agent.name] = value;
      }
    }
    chips();
    draw();
  };
  if (names.length) {
    fill(by("problem"), names.map((name) => [name, name]));
    by("problem").addEventListener("change", begin);
    by("view").addEventListener("change", () => { chips(); draw(); });
    by("some").addEventListener("click", () => all(null));
    by("every").addEventListener("click", () => all(true));
    by("none").addEventListener("click", () => all(false));
    by("curves").hidden = false;
    begin();
    redraw = () => { chips(); draw(); };
    addEventListener("resize", draw);
  }
  paint(system.matches ? "dark" : "light");

  // -- tables ---------------------------------------------------------------------------------------------------------
  const value = (cell) => {
    const text = cell.textContent.trim().replace("−", "-").replaceAll(",", "");
    return text === "never" ? Infinity : parseFloat(text);
  };
  const order = (table, place, words, way) => {
    for (const body of table.tBodies) {
      const rows = [...body.rows].filter((row) => !row.classList.contains("label"));
      const keyed = rows.map((row) => [row, words ? row.cells[place].textContent.trim() : value(row.cells[place])]);
      keyed.sort(([, one], [, other]) => {
        if (words) return way * one.localeCompare(other);
        if (Number.isNaN(one) || Number.isNaN(other)) return Number.isNaN(one) - Number.isNaN(other); // unknown: last
        return way * (one === other ? 0 : one < other ? -1 : 1);
      });
      body.append(...keyed.map(([row]) => row));
    }
  };
  for (const table of document.querySelectorAll("#tables table, #agents table, #losers table")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      const words = head.classList.contains("words");
      button.addEventListener("click", () => {
        const first = words ? "ascending" : "descending";
        const second = words ? "descending" : "ascending";
        const next = head.getAttribute("aria-sort") === first ? second : first;
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", next);
        order(table, place, words, next === "ascending" ? 1 : -1);
      });
    });
  }
  const filter = () => {
    const words = by("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    for (const table of document.querySelectorAll("#tables table")) {
      const before = left;
      for (const row of table.querySelectorAll("tbody tr:not(.label)")) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        left += !row.hidden;
      }
      if (words.length && left > before) table.closest("details").open = true;
    }
    by("left").textContent = words.length ? `${left} rows match` : "";
  };
  by("filter").addEventListener("input", filter);
  by("whole").addEventListener("change", () => document.body.classList.toggle("whole", by("whole").checked));
  by("table-controls").hidden = false;
})();
