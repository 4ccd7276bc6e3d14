// The clip inspector's view: a video and what is told of it over time, under one cursor.
//
// All times are in seconds after the first frame; `lead` is how much earlier a player's own clock starts. Names and
// words from files become text, never HTML.

const GUTTER = 76, RIGHT = 10; // pixels beside the panels
const PANELS = [["wave", 56], ["mel", 96], ["mouth", 64], ["scores", 110], ["lanes", 0]];
const LANE = 16, AXIS = 20, OVERVIEW = 34; // heights, in pixels
const TRUE = "#D55E00", FOUND = "#0072B2", GREY = "#707070", MOUTH = "#009E73", LOUD = "#707070";
const BATCH = 25, FEW = 4, KEPT = 250; // frames that are asked for at once, few where one seeks; and how many are held

function viewBytes(view) { // what a kernel sends is a DataView
  return view && view.byteLength ? new Uint8Array(view.buffer, view.byteOffset, view.byteLength) : null;
}

function openPicture(view, type) {
  const bytes = viewBytes(view);
  return bytes ? createImageBitmap(new Blob([bytes], { type })) : Promise.resolve(null);
}

function findLast(values, at) { // the last of rising values that is not above `at`, or -1
  let low = 0, high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] <= at) low = middle + 1; else high = middle;
  }
  return low - 1;
}

// Keeps time where there is nothing to be played: frames that come one by one, without sound.
class Clock extends EventTarget {
  constructor() { super(); this.at = 0; this.since = 0; this.rate = 1; this.paused = true; }
  get currentTime() { return this.paused ? this.at : this.at + ((performance.now() - this.since) / 1000) * this.rate; }
  set currentTime(time) { this.at = time; this.since = performance.now(); this.dispatchEvent(new Event("seeked")); }
  get playbackRate() { return this.rate; }
  set playbackRate(rate) { this.currentTime = this.currentTime; this.rate = rate; }
  play() { this.since = performance.now(); this.paused = false; this.dispatchEvent(new Event("play")); return Promise.resolve(); }
  pause() { this.at = this.currentTime; this.paused = true; this.dispatchEvent(new Event("pause")); }
}

class View {
  constructor(model, el) {
    this.model = model;
    this.root = make("div", "dfmm-inspector dfmm-live", el);
    this.root.tabIndex = 0;
    this.build();
    this.listeners = { "change:clip": () => this.open(), "change:page": () => this.takePage(),
      "change:look": () => this.takeLook(), "msg:custom": (...sent) => this.receive(...sent) };
    for (const [name, take] of Object.entries(this.listeners)) model.on(name, take);
    this.pressed = (event) => this.root.contains(event.target) && this.press(event);
    window.addEventListener("keydown", this.pressed, true); // before JupyterLab, which listens on the document
    this.resizer = new ResizeObserver(() => this.draw());
    this.resizer.observe(this.panels);
    this.open();
  }

  close() {
    for (const [name, take] of Object.entries(this.listeners)) this.model.off(name, take);
    window.removeEventListener("keydown", this.pressed, true);
    this.resizer.disconnect();
    this.release();
  }

  build() {
    const top = make("div", "dfmm-top", this.root);
    this.picture = make("div", "dfmm-picture", top);
    this.canvas = make("canvas", "", this.picture);
    this.box = make("div", "dfmm-box", this.picture);
    const crop = make("div", "dfmm-crop", top);
    this.crop = make("canvas", "", crop);
    this.cropSaid = make("div", "", crop);
    this.facts = make("div", "dfmm-facts", top);
    this.said = make("div", "dfmm-said", this.root);
    this.said.setAttribute("role", "status");
    this.buildBar();
    this.panels = make("div", "dfmm-panels", this.root);
    this.panels.setAttribute("role", "slider");
    this.panels.setAttribute("aria-label", "position in the clip");
    this.layers = Object.fromEntries(PANELS.map(([name]) => [name, make("canvas", `dfmm-${name}`, this.panels)]));
    this.chosen = make("div", "dfmm-chosen", this.panels);
    this.cursor = make("div", "dfmm-cursor", this.panels);
    this.values = make("div", "dfmm-values", this.root);
    this.whole = make("div", "dfmm-whole", this.root);
    this.overview = make("canvas", "", this.whole);
    this.marker = make("div", "dfmm-cursor", this.whole);
    this.overview.addEventListener("pointerdown", (event) => this.seek(this.timeAt(event, this.overview, 0, this.clip.duration)));
    this.followPointer();
  }

  buildBar() {
    const bar = make("div", "dfmm-bar", this.root);
    const button = (words, title, act) => {
      const node = make("button", "", bar, words);
      node.title = title;
      node.addEventListener("click", act);
      return node;
    };
    this.playing = button("▶", "play or pause (space)", () => this.toggle());
    button("‹", "a frame back (←; with shift: a second)", () => this.step(-1));
    button("›", "a frame on (→; with shift: a second)", () => this.step(1));
    this.time = make("output", "", bar);
    this.rates = [0.25, 0.5, 1].map((rate) => [rate, button(`${{ 0.25: "¼", 0.5: "½" }[rate] ?? rate}×`, "speed", () => this.setRate(rate))]);
    this.looping = button("loop", "repeat the stretch that is chosen, or all (l); drag on a panel to choose one", () => this.setLoop(!this.loops));
    this.forget = button("whole clip", "choose no stretch any more (escape)", () => this.choose(null));
  }

  // One clip

  open() {
    this.release();
    const model = this.model, clip = (this.clip = model.get("clip"));
    this.root.hidden = !clip.title; // no clip is chosen yet
    if (!clip.title) return;
    const bytes = viewBytes(model.get("frames"));
    this.frames = bytes ? new Float32Array(bytes.slice().buffer) : new Float32Array(0);
    this.times = this.frames.filter((_, at) => at % 4 === 0);
    Object.assign(this, { at: 0, rate: 1, loops: false, stretch: null, asked: {}, served: false, crops: new Map(), shown: new Map() });
    this.facts.replaceChildren();
    for (const [name, value] of clip.facts) {
      make("span", "", this.facts, name);
      make("span", "", this.facts, value);
    }
    this.picture.hidden = !this.times.length;
    this.said.textContent = "";
    for (const name of ["canvas", "crop"]) this[name].width = this[name].height = 1;
    this.canvas.hidden = true;
    this.openMedia(make("video"));
    const poster = viewBytes(model.get("poster"));
    if (poster) this.media.poster = this.address = URL.createObjectURL(new Blob([poster], { type: "image/jpeg" }));
    if (clip.width) this.media.style.aspectRatio = `${clip.width} / ${clip.height}`;
    this.picture.prepend(this.media);
    this.sources = [...clip.sources];
    this.trySource();
    this.setRate(1);
    this.choose(null);
    this.takeLook();
    this.takePage();
  }

  release() {
    cancelAnimationFrame(this.ticking);
    if (this.media instanceof HTMLMediaElement) {
      this.media.pause();
      this.media.removeAttribute("src");
      this.media.load();
      this.media.remove();
    }
    for (const address of [this.address, this.sounding]) if (address) URL.revokeObjectURL(address);
    for (const held of [this.crops, this.shown]) for (const picture of held?.values() ?? []) for (const one of [picture].flat()) one?.close();
    this.media = this.address = this.sounding = null;
  }

  openMedia(media) {
    this.media = media;
    if (media instanceof HTMLMediaElement) Object.assign(media, { preload: "auto", playsInline: true });
    for (const name of ["play", "pause", "ended"]) media.addEventListener(name, () => media === this.media && this.changed());
    media.addEventListener("seeked", () => {
      if (media === this.media && this.sought) this.root.dataset.seeked = (performance.now() - this.sought).toFixed(1); // how long it took, in ms
    });
    if (media instanceof HTMLVideoElement) {
      media.addEventListener("error", () => media === this.media && media.getAttribute("src") && this.trySource());
      media.addEventListener("loadedmetadata", () => {
        if (media !== this.media) return;
        if (this.times.length && !media.videoWidth) return this.fallBack(); // it hears what it cannot show
        this.root.dataset.ready = "video";
        media.currentTime = this.mediaTime(this.at);
      });
    }
  }

  trySource() { // the next address, then one more that the kernel is asked for, then frame by frame
    const source = this.sources.shift();
    if (source) this.media.src = source;
    else if (!this.served) { this.served = true; this.ask({ kind: "serve" }); } else this.fallBack();
  }

  fallBack() {
    const video = this.media;
    video.hidden = true;
    this.openMedia(new Clock());
    video.remove();
    this.media.currentTime = this.mediaTime(this.at);
    this.media.playbackRate = this.rate;
    this.said.textContent = this.times.length
      ? `This browser cannot play the file (${this.clip.codec || "it is not there"}): its frames are decoded by dfmm and come one by one.`
      : `This browser cannot play the file (${this.clip.codec || "it is not there"}).`;
    this.canvas.hidden = false;
    this.root.dataset.ready = "frames";
    openPicture(this.model.get("poster"), "image/jpeg").then((first) => first && !this.shown.has(0) && this.hold(0, first));
    this.ask({ kind: "sound" });
    this.update();
  }

  ask(content) { this.model.send(content); }

  receive(content, buffers) {
    if (content.why) this.said.textContent = content.why;
    if (content.kind === "serve" && content.url) { this.sources.push(content.url); this.trySource(); }
    if (content.kind === "serve" && content.why) this.fallBack();
    if (content.kind === "frames") this.takeFrames(content.first, buffers ?? []);
    if (content.kind === "sound") this.takeSound(buffers ?? []);
  }

  takeSound(buffers) {
    const bytes = viewBytes(buffers[0]);
    if (!bytes || !(this.media instanceof Clock)) return;
    const at = this.now, playing = !this.media.paused;
    this.media.pause();
    this.sounding = URL.createObjectURL(new Blob([bytes], { type: "audio/wav" }));
    this.openMedia(new Audio(this.sounding));
    this.media.addEventListener("loadedmetadata", () => { this.media.currentTime = at; }, { once: true });
    this.media.playbackRate = this.rate;
    if (playing) this.media.play();
  }

  // Time

  get isPlaying() { return this.media && !this.media.paused && !this.media.ended; }
  get lead() { return this.media instanceof HTMLVideoElement ? this.clip.lead : 0; }
  get now() { return this.isPlaying ? Math.min(Math.max(this.media.currentTime - this.lead, 0), this.clip.duration) : this.at; }
  get number() { return Math.max(findLast(this.times, this.at + 5e-4), 0); }
  mediaTime(time) { // in the middle of a frame, so that rounding shows no other one
    return time + this.lead + (this.times.length ? this.clip.frame_seconds / 2 : 0);
  }

  seek(time) {
    this.at = Math.min(Math.max(time, 0), Math.max(this.clip.duration - 1e-3, 0));
    if (this.times.length) {
      const number = this.number; // a seek ends on a frame
      if (Math.abs(this.times[number] - this.at) < 2 * this.clip.frame_seconds) this.at = this.times[number];
    }
    this.sought = performance.now();
    this.media.currentTime = this.mediaTime(this.at);
    this.update();
  }

  step(count, seconds = 0) {
    if (this.isPlaying) this.media.pause();
    if (seconds || !this.times.length) return this.seek(this.at + count * (seconds || 0.04));
    this.seek(this.times[Math.min(Math.max(this.number + count, 0), this.times.length - 1)]);
  }

  toggle() {
    if (this.isPlaying) return this.media.pause();
    if (this.at >= this.clip.duration - 2 * this.clip.frame_seconds) this.seek(this.loops && this.stretch ? this.stretch[0] : 0);
    this.media.play().catch((error) => { this.said.textContent = `It cannot be played: ${error.message}`; });
  }

  setRate(rate) {
    this.rate = this.media.playbackRate = rate;
    for (const [one, button] of this.rates) button.setAttribute("aria-pressed", one === rate);
  }

  setLoop(loops) {
    this.loops = loops;
    this.looping.setAttribute("aria-pressed", loops);
  }

  choose(stretch) {
    this.stretch = stretch;
    this.forget.hidden = !stretch;
    this.setLoop(!!stretch);
    this.placeMarks();
  }

  changed() {
    if (!this.isPlaying) this.at = this.media.ended ? this.clip.duration : Math.min(Math.max(this.media.currentTime - this.lead, 0), this.clip.duration);
    if (this.media.ended && this.loops) { this.seek(this.stretch ? this.stretch[0] : 0); this.media.play(); }
    this.playing.textContent = this.isPlaying ? "❚❚" : "▶";
    cancelAnimationFrame(this.ticking);
    if (this.isPlaying) this.tick(); else this.update();
  }

  tick() {
    if (!this.isPlaying) return;
    this.at = this.now;
    const [start, end] = this.stretch ?? [0, this.clip.duration];
    if (this.loops && this.at >= end) this.seek(start);
    else if (this.at >= this.clip.duration && this.media instanceof Clock) this.media.pause();
    this.update();
    this.ticking = requestAnimationFrame(() => this.tick());
  }

  press(event) {
    const act = {
      " ": () => this.toggle(), l: () => this.setLoop(!this.loops), Escape: () => this.choose(null),
      ArrowLeft: () => this.step(-1, event.shiftKey ? 1 : 0), ArrowRight: () => this.step(1, event.shiftKey ? 1 : 0),
      Home: () => this.seek(0), End: () => this.seek(this.clip.duration),
    }[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey || (event.key === " " && event.target.tagName === "BUTTON")) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    act();
  }

  timeAt(event, node, start, end) {
    const place = node.getBoundingClientRect();
    const share = (event.clientX - place.left - GUTTER) / (place.width - GUTTER - RIGHT);
    return start + Math.min(Math.max(share, 0), 1) * (end - start);
  }

  followPointer() {
    let from = null;
    const timeOf = (event) => this.timeAt(event, this.panels, this.page.start, this.page.end);
    this.panels.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      this.root.focus({ preventScroll: true });
      this.panels.setPointerCapture(event.pointerId);
      from = { x: event.clientX, time: timeOf(event), drags: false };
    });
    this.panels.addEventListener("pointermove", (event) => {
      if (!from) return;
      from.drags ||= Math.abs(event.clientX - from.x) > 4;
      if (from.drags) this.choose([from.time, timeOf(event)].sort((a, b) => a - b));
    });
    this.panels.addEventListener("pointerup", (event) => {
      if (!from) return;
      this.seek(from.drags ? this.stretch[0] : timeOf(event));
      from = null;
    });
  }

  // What belongs to a moment

  update() {
    const clip = this.clip, total = clip.duration;
    const frame = this.times.length ? `, frame ${this.number + 1} of ${this.times.length}` : "";
    this.time.textContent = `${this.at.toFixed(2)} of ${total.toFixed(2)} s${frame}`;
    this.root.dataset.time = this.at.toFixed(4);
    this.panels.setAttribute("aria-valuemax", total.toFixed(3));
    this.panels.setAttribute("aria-valuenow", this.at.toFixed(3));
    const wanted = Math.min(Math.floor((this.at / total) * clip.pages), clip.pages - 1);
    if (this.page && wanted !== this.page.number && this.asked.page !== wanted) this.ask({ kind: "page", number: (this.asked.page = wanted) });
    this.placeMarks();
    this.placeBox();
    this.showCrop();
    this.showFrame();
    this.showValues();
  }

  placeMarks() {
    if (!this.page) return;
    const { start, end } = this.page, width = this.panels.clientWidth - GUTTER - RIGHT;
    const x = (time) => GUTTER + ((time - start) / (end - start)) * width;
    this.cursor.hidden = this.at < start || this.at > end;
    this.cursor.style.left = `${x(this.at) - 1}px`;
    const [first, last] = (this.stretch ?? [0, 0]).map((time) => Math.min(Math.max(time, start), end));
    this.chosen.hidden = last <= first;
    Object.assign(this.chosen.style, { left: `${x(first)}px`, width: `${x(last) - x(first)}px` });
    this.marker.style.left = `${GUTTER + (this.at / this.clip.duration) * width - 1}px`;
  }

  placeBox() {
    const [, x, y, side] = this.frames.subarray(4 * this.number, 4 * this.number + 4);
    this.box.hidden = !(side > 0);
    const share = (value, whole) => `${(100 * value) / whole}%`;
    const { width, height } = this.clip;
    Object.assign(this.box.style, { left: share(x - side / 2, width), top: share(y - side / 2, height), width: share(side, width), height: share(side, height) });
  }

  showValues() {
    for (const [curve, node] of this.told ?? []) {
      const seen = curve.points.filter(([start, end]) => start <= this.at && this.at < end).map((point) => point[2]);
      node.textContent = seen.length ? Math.max(...seen).toFixed(3) : "–";
    }
  }

  findLook() { // the window that is seen now: of those that hold this moment the one that began last; and its step
    const { looks, moments, look_seconds } = this.clip, number = findLast(looks, this.at + 5e-4);
    const reach = moments.length > 1 ? (moments.at(-1) * moments.length) / (moments.length - 1) : look_seconds;
    if (number < 0 || this.at >= looks[number] + reach) return null;
    return { number, step: Math.max(findLast(moments, this.at - looks[number] + 5e-4), 0) };
  }

  showCrop() {
    const look = this.findLook(), key = look ? `${look.number}.${look.step}` : "";
    const crops = look && this.crops.get(look.number);
    if (look && !crops && this.asked.look !== look.number) this.ask({ kind: "look", number: (this.asked.look = look.number) });
    const kind = this.clip.scored ? "window" : "window that would be scored";
    this.cropSaid.textContent = look
      ? `as the model saw it: ${kind} ${look.number + 1} of ${this.clip.looks.length}, at ${(this.clip.looks[look.number] + this.clip.moments[look.step]).toFixed(2)} s`
      : "the model did not look here";
    if (look && !crops) return;
    const crop = crops?.[look.step] ?? null;
    this.paint(this.crop, crop);
    this.crop.dataset.shows = crop ? key : "";
    if (look && !crop) this.cropSaid.textContent += ": no face";
  }

  paint(canvas, picture) {
    if (picture && (canvas.width !== picture.width || canvas.height !== picture.height)) Object.assign(canvas, { width: picture.width, height: picture.height });
    const context = canvas.getContext("2d");
    if (picture) context.drawImage(picture, 0, 0); else context.clearRect(0, 0, canvas.width, canvas.height);
  }

  async takeLook() {
    const look = this.model.get("look"), clip = this.clip;
    if (look.number === undefined) return this.showCrop();
    const pictures = await Promise.all(look.crops.map((crop) => openPicture(crop, "image/jpeg")));
    if (clip !== this.clip) return;
    this.crops.set(look.number, pictures);
    if (this.asked.look === look.number) this.asked.look = null;
    this.showCrop();
  }

  showFrame() {
    if (this.root.dataset.ready !== "frames" || !this.times.length || this.media instanceof HTMLVideoElement) return;
    const number = this.number, picture = this.shown.get(number);
    if (picture) this.paint(this.canvas, picture);
    const next = picture && this.isPlaying ? number + BATCH / 2 : number;
    const missing = Math.min(Math.floor(next), this.times.length - 1);
    if (this.shown.has(missing) || this.asked.frames !== undefined) return;
    this.asked.frames = missing;
    this.ask({ kind: "frames", first: missing, count: this.isPlaying ? BATCH : FEW });
  }

  async takeFrames(first, buffers) {
    const clip = this.clip, pictures = await Promise.all(buffers.map((one) => openPicture(one, "image/jpeg")));
    if (clip !== this.clip) return;
    pictures.forEach((picture, at) => this.hold(first + at, picture));
    this.asked.frames = buffers.length ? undefined : first; // what cannot be decoded is not asked for again
    this.root.dataset.framed = (performance.now() - (this.sought ?? 0)).toFixed(1);
    this.showFrame();
  }

  hold(number, picture) {
    this.shown.get(number)?.close();
    this.shown.set(number, picture);
    for (const old of this.shown.keys()) {
      if (this.shown.size <= KEPT) break;
      if (Math.abs(old - this.number) > BATCH) { this.shown.get(old).close(); this.shown.delete(old); }
    }
    if (number === this.number) this.paint(this.canvas, picture);
  }

  // Panels

  async takePage() {
    const page = this.model.get("page"), clip = this.clip;
    const logMel = await openPicture(page.log_mel, "image/png");
    if (clip !== this.clip) return;
    this.logMel?.close();
    Object.assign(this, { page, logMel });
    if (this.asked.page === page.number) this.asked.page = null;
    this.draw();
    this.update();
  }

  draw() {
    if (!this.page) return;
    const lanes = this.clip.lanes.length;
    for (const [name, height] of PANELS) this.drawPanel(name, height || lanes * LANE + AXIS);
    this.listValues();
    this.whole.hidden = this.clip.pages < 2;
    if (this.clip.pages > 1) this.drawOverview();
    this.placeMarks();
    this.root.dataset.drawn = this.page.number;
  }

  openCanvas(canvas, height) {
    const width = this.panels.clientWidth, ratio = window.devicePixelRatio || 1;
    Object.assign(canvas, { width: width * ratio, height: height * ratio });
    canvas.style.height = `${height}px`;
    canvas.style.width = `${width}px`;
    const context = canvas.getContext("2d"), style = getComputedStyle(this.root);
    context.scale(ratio, ratio);
    context.font = "11px sans-serif";
    context.fillStyle = context.strokeStyle = style.color;
    context.textBaseline = "middle";
    return { context, width, height, ink: style.color, right: width - RIGHT };
  }

  drawPanel(name, height) {
    const pen = this.openCanvas(this.layers[name], height), { start, end } = this.page;
    pen.x = (time) => GUTTER + ((time - start) / (end - start)) * (pen.right - GUTTER);
    const { context } = pen;
    context.save();
    context.globalAlpha = 0.25;
    context.strokeRect(GUTTER, 2.5, pen.right - GUTTER, height - (name === "lanes" ? AXIS : 0) - 4);
    context.restore();
    this[`draw_${name}`](pen);
  }

  label(pen, words, y, color) {
    const { context } = pen;
    context.save();
    if (color) context.fillStyle = color;
    context.textAlign = "right";
    context.fillText(words, GUTTER - 8, y, GUTTER - 10);
    context.restore();
  }

  say(pen, words) {
    const { context } = pen;
    context.save();
    context.textAlign = "center";
    context.globalAlpha = 0.7;
    context.fillText(words, (GUTTER + pen.right) / 2, pen.height / 2);
    context.restore();
  }

  draw_wave(pen) {
    const { wave } = this.page, { context, height } = pen;
    this.label(pen, "waveform", height / 2);
    if (!wave) return this.say(pen, "no sound");
    const most = Math.max(0.02, ...wave.high, ...wave.low.map((value) => -value));
    const step = (pen.right - GUTTER) / wave.low.length, y = (value) => height / 2 - (value / most) * (height / 2 - 5);
    context.fillStyle = GREY;
    wave.low.forEach((low, at) => context.fillRect(GUTTER + at * step, y(wave.high[at]), Math.max(step, 0.8), Math.max(y(low) - y(wave.high[at]), 0.8)));
  }

  draw_mel(pen) {
    const { context, height } = pen, y = (place) => height - 3 - place * (height - 6);
    this.label(pen, "log-mel, Hz", 9);
    if (!this.logMel) return this.say(pen, "no sound");
    context.imageSmoothingEnabled = false;
    context.drawImage(this.logMel, GUTTER, 3, pen.right - GUTTER, height - 6);
    for (const [place, name] of this.clip.hertz) {
      if (y(place) > 18) this.label(pen, name, y(place));
      context.fillRect(GUTTER - 4, y(place), 4, 1);
    }
  }

  draw_mouth(pen) {
    const { mouth, mouth_told, loudness } = this.page;
    this.label(pen, mouth_told, pen.height / 2 - 8, MOUTH);
    this.label(pen, "loudness", pen.height / 2 + 8, LOUD);
    if (!mouth.length && !loudness.length) return this.say(pen, "neither a mouth nor any sound");
    this.drawCurve(pen, loudness, LOUD, [4, 3], 1);
    this.drawCurve(pen, mouth, MOUTH, [], 1.6);
    if (!mouth.length) this.say(pen, "no mouth is kept of this clip");
  }

  drawCurve(pen, points, color, dash, width) { // each from its lowest to its highest
    const { context, height } = pen, values = points.map((point) => point[1]);
    const low = Math.min(...values), reach = Math.max(...values) - low || 1;
    context.save();
    Object.assign(context, { strokeStyle: color, lineWidth: width });
    context.setLineDash(dash);
    context.beginPath();
    points.forEach(([time, value], at) => {
      const gap = at && time - points[at - 1][0] > 0.25;
      context[at && !gap ? "lineTo" : "moveTo"](pen.x(time), height - 6 - ((value - low) / reach) * (height - 12));
    });
    context.stroke();
    context.restore();
  }

  draw_scores(pen) {
    const { context, height } = pen, { curves, threshold } = this.clip, y = (value) => height - 6 - value * (height - 12);
    this.label(pen, "probability", height / 2);
    for (const value of [0, 1]) this.label(pen, String(value), y(value) + (value ? 5 : -4));
    if (!curves.length) return this.say(pen, "not scored");
    context.save();
    context.beginPath();
    context.rect(GUTTER, 0, pen.right - GUTTER, height);
    context.clip();
    if (threshold !== null) {
      context.setLineDash([8, 4]);
      context.strokeRect(GUTTER - 2, y(threshold), pen.right - GUTTER + 4, 0);
    }
    for (const curve of curves) this.drawScores(pen, curve, y);
    context.restore();
  }

  drawScores(pen, { points, look, dash }, y) {
    const { context } = pen, color = look.color === "#000000" ? pen.ink : look.color;
    Object.assign(context, { strokeStyle: color, fillStyle: color, lineWidth: 1.6 });
    context.setLineDash(dash);
    context.beginPath();
    points.forEach(([start, end, value], at) => context[at ? "lineTo" : "moveTo"](pen.x((start + end) / 2), y(value)));
    context.stroke();
    context.setLineDash([]);
    context.globalAlpha = 0.35; // how far each window reaches
    for (const [start, end, value] of points) context.fillRect(pen.x(start), y(value) - 1, pen.x(end) - pen.x(start), 2);
    context.globalAlpha = 1;
    if (points.length < 200) for (const [start, end, value] of points) context.fillRect(pen.x((start + end) / 2) - 2.5, y(value) - 2.5, 5, 5);
  }

  draw_lanes(pen) {
    const { context, height } = pen;
    this.clip.lanes.forEach((lane, at) => {
      const middle = at * LANE + LANE / 2 + 2;
      this.label(pen, lane.name, middle);
      context.save();
      context.globalAlpha = 0.7;
      if (lane.said) context.fillText(lane.said, GUTTER + 6, middle);
      context.fillStyle = lane.kind === "true" ? TRUE : FOUND;
      context.beginPath();
      context.rect(GUTTER, 0, pen.right - GUTTER, height);
      context.clip();
      for (const [start, end] of lane.stretches) context.fillRect(pen.x(start), middle - 5, Math.max(pen.x(end) - pen.x(start), 2), 10);
      context.restore();
    });
    this.drawAxis(pen, height - AXIS);
  }

  drawAxis(pen, top) {
    const { start, end } = this.page, { context } = pen;
    const step = [0.1, 0.2, 0.5, 1, 2, 5, 10].find((one) => (end - start) / one <= 12) ?? 20;
    context.textAlign = "center";
    for (let tick = Math.ceil(start / step); tick * step <= end; tick++) {
      context.fillRect(pen.x(tick * step), top - 1, 1, 4);
      context.fillText(`${(tick * step).toFixed(step < 1 ? 1 : 0)}${tick === Math.ceil(start / step) ? " s" : ""}`, pen.x(tick * step), top + 11);
    }
  }

  listValues() {
    this.values.replaceChildren();
    this.told = this.clip.curves.map((curve) => {
      const place = make("span", "", this.values), key = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      const line = key.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "line"));
      const color = curve.look.color === "#000000" ? "currentColor" : curve.look.color;
      for (const [name, value] of Object.entries({ width: 30, height: 8 })) key.setAttribute(name, value);
      for (const [name, value] of Object.entries({ x1: 0, x2: 30, y1: 4, y2: 4, stroke: color, "stroke-width": 2.5, "stroke-dasharray": curve.dash.join(" ") })) line.setAttribute(name, value);
      place.append(key, `${curve.look.label} `);
      return [curve, make("b", "", place)];
    });
    this.showValues();
  }

  drawOverview() { // all of a clip that has several pages
    const pen = this.openCanvas(this.overview, OVERVIEW), { context, height } = pen, { duration, curves } = this.clip;
    pen.x = (time) => GUTTER + (time / duration) * (pen.right - GUTTER);
    this.label(pen, "whole clip", height / 2);
    context.save();
    context.globalAlpha = 0.25;
    context.strokeRect(GUTTER, 2.5, pen.right - GUTTER, height - 5);
    context.fillStyle = FOUND;
    context.fillRect(pen.x(this.page.start), 3, pen.x(this.page.end) - pen.x(this.page.start), height - 6);
    context.restore();
    if (curves.length) this.drawScores(pen, curves[0], (value) => height - 5 - value * (height - 10));
  }
}

export default {
  render({ model, el }) {
    const view = new View(model, el);
    return () => view.close();
  },
};
