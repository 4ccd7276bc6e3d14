// The table of clips: only rows in sight are asked for and drawn. Names become text, never HTML.

const ROW = 44, SIGHT = 8, MOST_PIXELS = 8e6; // height of a row; rows in sight; a browser draws no higher

class Table {
  constructor(model, el) {
    this.model = model;
    this.about = model.get("about");
    Object.assign(this, { filters: {}, text: "", sort: "", descending: false, first: 0, total: this.about.total, faces: new Map(), rows: [], chosen: null });
    this.root = make("div", "dfmm-table dfmm-live", el);
    this.root.tabIndex = 0;
    this.build();
    this.listen = (content, buffers) => this.receive(content, buffers);
    model.on("msg:custom", this.listen);
    this.pressed = (event) => this.root.contains(event.target) && this.press(event);
    window.addEventListener("keydown", this.pressed, true); // before JupyterLab, which listens on the document
    this.ask();
  }

  close() {
    this.model.off("msg:custom", this.listen);
    window.removeEventListener("keydown", this.pressed, true);
    for (const address of this.faces.values()) if (address) URL.revokeObjectURL(address);
  }

  build() {
    const bar = make("div", "dfmm-filters", this.root), { values, verdicts, columns } = this.about;
    const text = make("input", "", make("label", "", bar, "name"));
    text.type = "search";
    text.addEventListener("input", () => this.change({ text: text.value }));
    const lists = { ...values, ...(verdicts.length ? { verdict: ["none yet", ...verdicts.filter(Boolean)] } : {}) };
    for (const [name, choices] of Object.entries(lists)) {
      const select = make("select", "", make("label", "", bar, name));
      select.dataset.filter = name;
      for (const value of ["", ...choices]) make("option", "", select, value || "all").value = value;
      select.addEventListener("change", () => this.change({ filters: { ...this.filters, [name]: select.value } }));
    }
    this.status = make("span", "dfmm-status", bar);
    this.status.setAttribute("role", "status");
    this.scroller = make("div", "dfmm-scroller", this.root);
    this.spacer = make("div", "", this.scroller);
    const table = make("table", "", this.spacer), head = make("tr", "", make("thead", "", table));
    make("th", "", head, "");
    this.heads = columns.map((name) => {
      const cell = make("th", "", head, name);
      cell.addEventListener("click", () => this.change({ sort: name, descending: this.sort === name ? !this.descending : this.about.scores.includes(name) }));
      return [name, cell];
    });
    if (verdicts.length) for (const name of ["verdict", "note", "others"]) make("th", "", head, name);
    this.body = make("tbody", "", table);
    this.scroller.addEventListener("scroll", () => this.look());
  }

  change(values) {
    Object.assign(this, values);
    this.scroller.scrollTop = 0;
    this.first = 0;
    for (const [name, cell] of this.heads) cell.textContent = name + (name === this.sort ? (this.descending ? " ↓" : " ↑") : "");
    this.ask();
  }

  look() { // which rows are in sight
    const reach = this.spacer.offsetHeight - this.scroller.clientHeight, beyond = Math.max(this.total - SIGHT, 0);
    const first = Math.round(beyond * (reach > 0 ? Math.min(this.scroller.scrollTop / reach, 1) : 0));
    if (first === this.first) return;
    this.first = first;
    this.ask();
  }

  ask() { // one question at a time: whoever scrolls on is answered once, with where that ends
    if (this.asking) { this.again = true; return; }
    const { filters, text, sort, descending, first } = this;
    this.asking = performance.now();
    this.model.send({ kind: "rows", filters, text, sort, descending, first, count: SIGHT + 1 });
  }

  receive(content, buffers) {
    if (content.why) this.status.textContent = content.why;
    if (content.kind === "rows") {
      this.root.dataset.took = (performance.now() - this.asking).toFixed(1);
      this.asking = null;
      if (content.rows) this.show(content);
      if (this.again) { this.again = false; this.ask(); }
    } else if (content.kind === "faces") this.takeFaces(content.numbers, buffers ?? []);
    else if (content.kind === "annotate" && !content.why) this.status.textContent = `written down for ${this.about.who}`;
  }

  show({ rows, total, first }) {
    Object.assign(this, { rows, total });
    this.spacer.style.height = `${Math.min(total * ROW + 30, MOST_PIXELS)}px`;
    this.status.textContent = `${total.toLocaleString("en")} of ${this.about.total.toLocaleString("en")} clips${total ? `, from ${(first + 1).toLocaleString("en")}` : ""}`;
    this.body.replaceChildren(...rows.map((row) => this.drawRow(row)));
    const missing = rows.map((row) => row.number).filter((number) => !this.faces.has(number));
    if (missing.length) this.model.send({ kind: "faces", numbers: missing });
    for (const number of missing) this.faces.set(number, "");
    this.root.dataset.total = total;
  }

  drawRow(row) {
    const line = make("tr");
    line.dataset.number = row.number;
    line.setAttribute("aria-selected", row.number === this.chosen);
    const face = make("img", "", make("td", "dfmm-face", line));
    face.alt = "";
    if (this.faces.get(row.number)) face.src = this.faces.get(row.number);
    row.cells.forEach((cell, at) => {
      const node = make("td", this.about.scores.includes(this.about.columns[at]) ? "dfmm-number" : "", line, cell);
      node.title = cell;
    });
    line.addEventListener("click", (event) => !["SELECT", "INPUT", "OPTION"].includes(event.target.tagName) && this.open(row.number));
    if (this.about.verdicts.length) this.drawSaid(line, row);
    return line;
  }

  drawSaid(line, row) {
    const verdict = make("select", "", make("td", "", line)), note = make("input", "", make("td", "", line));
    for (const value of this.about.verdicts) make("option", "", verdict, value || "–").value = value;
    Object.assign(verdict, { value: row.verdict });
    Object.assign(note, { value: row.note, placeholder: "note" });
    for (const node of [verdict, note]) node.addEventListener("change", () => this.say(row, verdict.value, note.value));
    const others = make("td", "", line, row.others.join("; "));
    others.title = row.others.join("\n");
  }

  say(row, verdict, note) {
    Object.assign(row, { verdict, note });
    this.model.send({ kind: "annotate", number: row.number, verdict, note });
  }

  takeFaces(numbers, buffers) {
    numbers.forEach((number, at) => {
      if (!buffers[at]?.byteLength) return;
      const { buffer, byteOffset, byteLength } = buffers[at];
      this.faces.set(number, URL.createObjectURL(new Blob([new Uint8Array(buffer, byteOffset, byteLength)], { type: "image/jpeg" })));
      const face = this.body.querySelector(`tr[data-number="${number}"] img`);
      if (face) face.src = this.faces.get(number);
    });
  }

  open(number) {
    this.chosen = number;
    for (const line of this.body.children) line.setAttribute("aria-selected", Number(line.dataset.number) === number);
    this.model.send({ kind: "open", number });
  }

  press(event) {
    if (["INPUT", "SELECT"].includes(event.target.tagName) || event.ctrlKey || event.metaKey || event.altKey) return;
    const at = this.rows.findIndex((row) => row.number === this.chosen), row = this.rows[at];
    const verdict = { r: "real", f: "fake", u: "unsure" }[event.key];
    const moves = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!moves && !(verdict && row && this.about.verdicts.length)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    if (verdict) {
      this.say(row, verdict, row.note);
      this.body.children[at].querySelector("select").value = verdict;
    } else if (this.rows[at + moves]) {
      this.open(this.rows[at + moves].number);
      if (at + moves >= SIGHT - 1 || at + moves === 0) this.scroller.scrollTop += moves * ROW * (this.spacer.offsetHeight / (this.total * ROW + 30));
    }
  }
}

export default {
  render({ model, el }) {
    const table = new Table(model, el);
    return () => table.close();
  },
};
