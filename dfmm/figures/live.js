// Live training: curves of runs, drawn anew whenever the kernel sends them; names and words become text, never HTML.

const WIDTH = 300, HEIGHT = 170, LEFT = 46, RIGHT = 8, TOP = 8, BOTTOM = 22; // of a panel, in pixels
const PATIENCE = 4000; // ms that a busy kernel may take to answer a wish

function chooseMarks(low, high, count) { // round numbers, a step of 1, 2 or 5 apart
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((times) => times * power >= rough) * power, marks = [];
  for (let mark = Math.ceil(low / step) * step; mark <= high + step * 1e-9; mark += step) marks.push(mark);
  return marks;
}

function write(value) {
  if (value === 0) return "0";
  return Math.abs(value) < 0.01 ? value.toExponential(0).replace("e-", "e−") : String(Number(value.toPrecision(3)));
}

function findRange(panel) {
  if (panel.range) return panel.range;
  const values = panel.lines.flatMap((line) => line.y.filter((value) => value !== null));
  const low = Math.min(...values, 0), high = Math.max(...values);
  return [low, high > low ? high * 1.04 : low + 1];
}

function drawPanel(parent, panel, runs) {
  const box = make("figure", "dfmm-panel", parent);
  make("figcaption", "", box, panel.title);
  const svg = draw("svg", box, { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": panel.title });
  const [low, high] = findRange(panel), last = Math.max(1, ...panel.lines.flatMap((line) => line.x));
  const x = (value) => LEFT + (value / last) * (WIDTH - LEFT - RIGHT);
  const y = (value) => TOP + (1 - (value - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);
  for (const mark of chooseMarks(low, high, 4)) {
    draw("line", svg, { x1: LEFT, x2: WIDTH - RIGHT, y1: y(mark), y2: y(mark), class: "dfmm-grid" });
    draw("text", svg, { x: LEFT - 5, y: y(mark) + 3.5, "text-anchor": "end" }, write(mark));
  }
  const whole = chooseMarks(0, last, 5).filter(Number.isInteger);
  for (const mark of whole) {
    const ends = mark === whole.at(-1), anchor = ends && x(mark) > WIDTH - 30 ? "end" : "middle";
    draw("text", svg, { x: x(mark), y: HEIGHT - 6, "text-anchor": anchor }, ends ? `epoch ${mark}` : mark);
  }
  if (panel.title !== "learning rate") runs.forEach((run) => run.best && draw("line", svg, { x1: x(run.best), x2: x(run.best), y1: TOP, y2: HEIGHT - BOTTOM, stroke: run.colour, class: "dfmm-best" }));
  let points = 0;
  for (const line of panel.lines) {
    const colour = runs[line.run].colour;
    if (line.low) {
      const edge = [...line.x.map((at, i) => [at, line.high[i]]), ...line.x.map((at, i) => [at, line.low[i]]).reverse()];
      draw("polygon", svg, { points: edge.map(([a, b]) => `${x(a)},${y(b)}`).join(" "), fill: colour, class: "dfmm-band" });
    }
    const known = line.x.map((at, i) => [at, line.y[i]]).filter(([, value]) => value !== null);
    points += known.length;
    draw("polyline", svg, { points: known.map(([a, b]) => `${x(a)},${y(b)}`).join(" "), stroke: colour, class: line.dashed ? "dfmm-line dfmm-val" : "dfmm-line" });
    if (line.dashed) for (const [a, b] of known) draw("rect", svg, { x: x(a) - 2, y: y(b) - 2, width: 4, height: 4, fill: colour });
  }
  box.dataset.points = points;
}

async function writeFile(url) { // in a run's folder, by Jupyter's own server; is it done?
  const guard = document.cookie.match(/(?:^|; )_xsrf=([^;]+)/)?.[1];
  const headers = { "Content-Type": "application/json", ...(guard ? { "X-XSRFToken": guard } : {}) };
  const body = JSON.stringify({ type: "file", format: "text", content: "asked for in a notebook\n" });
  try {
    return (await fetch(url, { method: "PUT", headers, body })).ok;
  } catch {
    return false;
  }
}

class Live {
  constructor(model, el) {
    this.model = model;
    this.root = make("div", "dfmm-curves dfmm-live", el);
    this.rows = make("div", "", this.root);
    this.status = make("div", "dfmm-said", this.root);
    this.status.setAttribute("role", "status");
    this.grid = make("div", "dfmm-grid-of-panels", this.root);
    make("div", "dfmm-faint", this.root, "solid: training, mean of neighbouring steps; dashed: validation; dotted: the epoch that is kept");
    this.listeners = { "change:panels": () => this.drawPanels(), "change:runs": () => this.drawRuns(), "change:said": () => this.say() };
    for (const [name, take] of Object.entries(this.listeners)) model.on(name, take);
    this.drawRuns();
    this.drawPanels();
    this.say();
  }

  close() {
    clearTimeout(this.waiting);
    for (const [name, take] of Object.entries(this.listeners)) this.model.off(name, take);
  }

  say(words) {
    clearTimeout(this.waiting);
    this.status.textContent = words ?? this.model.get("said");
  }

  drawPanels() {
    const runs = this.model.get("runs"), fresh = document.createDocumentFragment();
    for (const panel of this.model.get("panels")) drawPanel(fresh, panel, runs);
    this.grid.replaceChildren(fresh);
  }

  drawRuns() { // the buttons stay the same nodes: one may be pressed just now
    const runs = this.model.get("runs");
    if (this.rows.children.length !== runs.length) this.rows.replaceChildren(...runs.map((run, at) => this.makeRow(at)));
    runs.forEach((run, at) => {
      const row = this.rows.children[at], [swatch, name, told, stop, go] = row.firstChild.children;
      swatch.style.background = run.colour;
      name.textContent = run.name;
      told.textContent = run.told;
      if (row.dataset.status && row.dataset.status !== run.status) this.say(); // what was wished for has come
      row.dataset.status = run.status;
      stop.disabled = run.status !== "running" && run.status !== "crashed";
      go.hidden = !["stopped", "interrupted", "crashed", "failed"].includes(run.status);
      row.lastChild.replaceChildren(...run.concerns.map((concern) => make("li", "", null, concern)));
    });
  }

  makeRow(at) {
    const row = make("div", "dfmm-run"), line = make("div", "", row);
    make("span", "dfmm-swatch", line);
    make("b", "", line);
    make("span", "dfmm-told", line);
    make("button", "", line, "Stop").addEventListener("click", () => this.ask("stop", at));
    make("button", "", line, "Go on").addEventListener("click", () => this.ask("go", at));
    make("ul", "dfmm-concerns", row);
    return row;
  }

  async ask(kind, at) { // a kernel that trains reads no message before the training is over: the server writes the file
    const run = this.model.get("runs")[at];
    this.say(kind === "stop" ? "asking it to stop …" : "…");
    if (kind === "stop" && run.stop_url && await writeFile(run.stop_url)) return this.say("asked to stop: it ends after its step, with a checkpoint");
    this.waiting = setTimeout(() => this.say(`The kernel is busy and does not listen; in a terminal this does: ${run.commands[kind]}`), PATIENCE);
    this.model.send({ kind, run: at });
  }
}

export default {
  render({ model, el }) {
    const live = new Live(model, el);
    return () => live.close();
  },
};
