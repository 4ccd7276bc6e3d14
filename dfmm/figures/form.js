// The form of settings: sections that open, a field a setting; Python says what is wrong and what differs.

class Form {
  constructor(model, el) {
    this.model = model;
    this.about = model.get("about");
    this.fields = new Map();
    this.sections = new Map();
    this.root = make("div", "dfmm-form dfmm-live", el);
    this.build();
    this.listen = (answer) => this.receive(answer);
    model.on("msg:custom", this.listen);
    this.receive(this.about.answer);
  }

  close() { this.model.off("msg:custom", this.listen); }

  build() {
    const bar = make("div", "dfmm-bar", this.root), word = make("input", "", bar), write = make("button", "", bar, `write ${this.about.target}`);
    word.type = "search";
    word.placeholder = "find a setting";
    word.setAttribute("aria-label", "find a setting");
    word.addEventListener("input", () => this.model.send({ kind: "find", word: word.value }));
    write.addEventListener("click", () => this.model.send({ kind: "write" }));
    this.said = make("span", "dfmm-said", bar);
    this.said.setAttribute("role", "status");
    this.faults = make("div", "dfmm-faults", this.root);
    for (const field of this.about.fields) this.add(field);
  }

  add(field) {
    const [section, key] = field.name.includes(".") ? field.name.split(".") : ["", field.name];
    if (!this.sections.has(section)) this.open(section);
    const row = make("label", "dfmm-field", this.sections.get(section).node);
    row.dataset.name = field.name;
    make("b", "", row, key);
    const input = make(field.choices.length ? "select" : "input", "", row);
    for (const [shown, text] of field.choices) make("option", "", input, shown).value = text;
    input.value = field.text;
    make("span", "", row, field.meaning).append(make("br"), make("small", "", null, field.kinds));
    const usual = make("span", "dfmm-usual", row, `${this.about.against}: ${field.usual}`), fault = make("span", "dfmm-fault", row);
    input.addEventListener(field.choices.length ? "change" : "input", () => this.model.send({ kind: "change", name: field.name, text: input.value }));
    this.fields.set(field.name, { row, input, usual, fault, section });
  }

  open(section) {
    const node = make("details", "", this.root), head = make("summary", "", node, section || "all");
    node.dataset.section = section;
    this.sections.set(section, { node, count: make("span", "", head) });
  }

  receive({ faults, differs, said, found }) {
    this.said.textContent = said || "";
    const counts = {}, elsewhere = [];
    for (const [name, { row, input, usual, fault, section }] of this.fields) {
      const apart = differs.includes(name), wrong = faults[name] || "";
      row.dataset.differs = apart;
      usual.hidden = !apart;
      fault.textContent = wrong;
      fault.hidden = !wrong;
      input.setAttribute("aria-invalid", Boolean(wrong));
      counts[section] = (counts[section] || 0) + apart;
      if (found) row.hidden = !found.includes(name);
      row.style.display = row.hidden ? "none" : "";
    }
    for (const [name, why] of Object.entries(faults)) if (!this.fields.has(name)) elsewhere.push(name ? `${name}: ${why}` : why);
    this.faults.textContent = elsewhere.join(" · ");
    for (const [section, { node, count }] of this.sections) {
      count.textContent = counts[section] ? `${counts[section]} differ${counts[section] === 1 ? "s" : ""}` : "";
      if (!found) continue;
      const rows = [...node.querySelectorAll(".dfmm-field")].filter((row) => !row.hidden);
      node.style.display = rows.length ? "" : "none";
      node.open = rows.length > 0 && found.length < this.fields.size;
    }
  }
}

export default {
  render({ model, el }) {
    const form = new Form(model, el);
    return () => form.close();
  },
};
