// Threshold and prior: who is called fake is counted here, in the browser, from scores that were sent once.

const WIDTH = 640, HALF = 62, LEFT = 20, AXIS = 20; // of the histogram, in pixels; of either half of it
const LEAST = 0.001; // prior, and one less the most

export const logit = (share) => Math.log(share / (1 - share)), expit = (odds) => 1 / (1 + Math.exp(-odds));

export function countBelow(values, at) { // of rising values
  let low = 0, high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] < at) low = middle + 1; else high = middle;
  }
  return low;
}

export function measure({ reals, fakes, moved }, threshold, prior) { // in log-odds, all but the prior
  const share = (part, whole) => (whole ? part / whole : null);
  const tn = countBelow(reals, threshold - moved), fn = countBelow(fakes, threshold - moved);
  const fp = reals.length - tn, tp = fakes.length - fn;
  const recall = share(tp, fakes.length), false_alarms = share(fp, reals.length);
  const right = prior * recall, wrong = (1 - prior) * false_alarms;
  return {
    tn, fp, fn, tp, recall, false_alarms, precision: share(tp, tp + fp),
    precision_at_prior: recall === null || false_alarms === null ? null : share(right, right + wrong),
  };
}

const readFloats = (view) => new Float64Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
const write = (value, digits = 3) => (value === null ? "–" : value.toFixed(digits));
const writeTimes = (value, times, digits) => write(value === null ? null : times * value, digits);
const writeInterval = ({ low, high }, times, digits) => (low === null ? "" : ` [${writeTimes(low, times, digits)}, ${writeTimes(high, times, digits)}]`);
const writeShare = (share) => (share < 0.1 || share > 0.9 ? share.toFixed(3) : share.toFixed(2));

class Sliders {
  constructor(model, el) {
    this.about = model.get("about");
    this.reals = readFloats(model.get("reals"));
    this.fakes = readFloats(model.get("fakes"));
    this.root = make("div", "dfmm-sliders dfmm-live", el);
    const { threshold, prior, reach } = this.about;
    this.svg = draw("svg", this.root, { viewBox: `0 0 ${WIDTH} ${2 * HALF + AXIS}`, role: "img", "aria-label": "scores of fakes above, of reals below" });
    this.threshold = this.addSlider("threshold", [-reach, reach], logit(threshold), "validation's", () => this.validated());
    this.prior = this.addSlider("share of fakes (prior)", [logit(LEAST), -logit(LEAST)], logit(prior), "training's", () => logit(prior));
    const below = make("div", "dfmm-found", this.root);
    this.table = make("table", "", below);
    this.list = make("div", "dfmm-numbers", below);
    this.clips = make("p", "", this.root);
    this.mind = make("p", "dfmm-mind", this.root);
    this.show();
  }

  addSlider(name, [min, max], value, back, find) {
    const row = make("div", "dfmm-slider", this.root), label = make("label", "", row, name), input = make("input", "", label);
    Object.assign(input, { type: "range", min, max, step: 0.001, value });
    const said = make("output", "", row);
    make("button", "", row, back).addEventListener("click", () => { slider.value = find(); this.show(); });
    const slider = { value, said, input };
    input.addEventListener("input", () => { slider.value = Number(input.value); this.show(); });
    return slider;
  }

  get moved() { return this.prior.value - logit(this.about.prior); }
  validated() { return logit(this.about.threshold) + this.moved; } // moved along, it calls the same videos fake

  show() {
    const prior = expit(this.prior.value), { reals, fakes, moved } = this;
    const found = measure({ reals, fakes, moved }, this.threshold.value, prior);
    for (const slider of [this.threshold, this.prior]) {
      slider.input.value = slider.value; // one that is beyond the slider's reach stays what it is
      slider.said.textContent = writeShare(expit(slider.value));
    }
    this.drawScores();
    this.tell(found, prior);
    this.root.dataset.found = JSON.stringify({ threshold: expit(this.threshold.value), prior, ...found });
  }

  drawScores() {
    const { reach, bins, marks, colours } = this.about, wide = (WIDTH - 2 * LEFT) / bins;
    const x = (odds) => LEFT + ((Math.max(-reach, Math.min(reach, odds)) + reach) / (2 * reach)) * (WIDTH - 2 * LEFT);
    const count = (values) => {
      const counts = new Array(bins).fill(0);
      for (const value of values) counts[Math.min(bins - 1, Math.floor((x(value + this.moved) - LEFT) / wide))]++;
      return counts;
    };
    const above = count(this.fakes), below = count(this.reals), most = Math.max(1, ...above, ...below);
    this.svg.replaceChildren();
    for (const [counts, colour, sign] of [[above, colours.fake, -1], [below, colours.real, 1]]) {
      counts.forEach((number, at) => {
        const height = (number / most) * (HALF - 4);
        if (number) draw("rect", this.svg, { x: LEFT + at * wide, y: HALF + (sign < 0 ? -height : 0), width: wide - 0.5, height, fill: colour });
      });
    }
    draw("text", this.svg, { x: LEFT, y: 12, fill: colours.fake }, `fakes (${this.fakes.length})`);
    draw("text", this.svg, { x: LEFT, y: 2 * HALF - 3, fill: colours.real }, `reals (${this.reals.length})`);
    draw("line", this.svg, { x1: LEFT, x2: WIDTH - LEFT, y1: HALF, y2: HALF, class: "dfmm-axis" });
    for (const mark of marks) draw("text", this.svg, { x: x(logit(mark)), y: 2 * HALF + 14, "text-anchor": "middle", class: "dfmm-tick" }, mark);
    for (const [at, name] of [[this.validated(), "dfmm-validated"], [this.threshold.value, "dfmm-chosen"]]) draw("line", this.svg, { x1: x(at), x2: x(at), y1: 0, y2: 2 * HALF, class: name });
  }

  tell(found, prior) {
    const rows = [["", "called real", "called fake"], ["real", found.tn, found.fp], ["fake", found.fn, found.tp]];
    this.table.replaceChildren(...rows.map((cells, at) => {
      const line = make("tr");
      cells.forEach((cell, column) => make(at && column ? "td" : "th", "", line, cell));
      return line;
    }));
    const off = Math.abs(this.threshold.value - this.validated()) > 1e-9; // where there is no interval that means anything
    const tellShare = (name, times, digits) => writeTimes(found[name], times, digits) + (off ? "" : writeInterval(this.about[name], times, digits));
    const total = this.reals.length + this.fakes.length, words = [
      ["recall (fakes found)", tellShare("recall", 1, 3)],
      ["false alarms per hundred reals", tellShare("false_alarms", 100, 1)],
      [`precision here, where ${write(this.fakes.length / total, 2)} are fake`, write(found.precision)],
      [`precision where ${writeShare(prior)} are fake`, write(found.precision_at_prior)],
    ];
    this.list.replaceChildren(...words.flatMap(([name, value]) => [make("span", "", null, name), make("b", "", null, value)]));
    const { clips, split } = this.about, fakes = Math.round(clips * prior);
    const among = (share, number) => (share === null ? "–" : Math.round(share * number));
    this.clips.textContent = `Of ${clips} clips with that share of fakes, ${fakes} are fake, of which ${among(found.recall, fakes)} would be found, and ${clips - fakes} real, of which ${among(found.false_alarms, clips - fakes)} would be called fake.`;
    this.mind.classList.toggle("dfmm-off", off);
    this.mind.textContent = off
      ? `This threshold is chosen here, on ${split}: what it reaches here is no news of other videos. Validation's, dashed, is ${writeShare(expit(this.validated()))}.`
      : `This is the threshold of validation. Choosing another one here is choosing on ${split}: what that reaches here is no news of other videos.`;
  }
}

export default {
  render({ model, el }) {
    new Sliders(model, el);
  },
};
