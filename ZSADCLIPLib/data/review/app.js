/* The page: cases, findings, verdicts and keys. Texts of files become text, never markup. */
"use strict";

(function () {
  const $ = (id) => document.getElementById(id);
  const SIGNS = { accept: "✓", reject: "✗", unsure: "?" };
  const run = zsadclip.run;
  const store = new zsadclip.Store(run, say);
  const view = new zsadclip.View($("canvas"), moved);
  let flat = "", current = null, entry = null, review = null, chosen = -1, active = Date.now();

  function say(text, isBad) {
    $("saved").textContent = text;
    $("saved").className = isBad ? "bad" : "";
  }

  function make(tag, text, className) {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (className) element.className = className;
    return element;
  }

  function fixed(number, digits) {
    return Number(number).toFixed(digits);
  }

  /* Cases */

  function drawCases() {
    $("cases").replaceChildren(...run.cases.map((each) => {
      const button = make("button");
      const said = store.reviews.get(each.id);
      const judged = said ? said.findings.length : 0;
      button.type = "button";
      button.append(make("span", `${said && said.finished ? "✓ " : ""}${each.id} `));
      const score = each.volume_score === null ? "" : `score ${fixed(each.volume_score, 3)}, `;
      button.append(make("small", `${score}${judged} of ${each.findings} judged`));
      button.setAttribute("aria-current", String(each === entry));
      button.addEventListener("click", () => open(each));
      const item = make("li");
      item.append(button);
      return item;
    }));
    const finished = run.cases.filter((each) => store.reviews.get(each.id)?.finished).length;
    $("cases-title").textContent = `Cases: ${finished} of ${run.cases.length} finished`;
  }

  function load(id) {
    return new Promise((resolve, reject) => {
      const script = make("script");
      zsadclip.addCase = (data) => resolve(data);
      script.src = `cases/${id}.js`;
      script.onload = () => script.remove();
      script.onerror = () => reject(new Error(`cases/${id}.js is missing; copy the whole folder`));
      document.head.append(script);
    });
  }

  let opening = Promise.resolve();
  function open(next) {
    opening = opening.then(() => show(next)).catch((error) => {
      $("case-title").textContent = `${next.id}: ${error.message}`;
    });
    return opening;
  }

  async function show(next) {
    document.body.removeAttribute("data-ready");
    if (store.said(review)) store.changed(entry.id, 0);
    [entry, current, chosen] = [next, null, -1];
    review = null;
    $("case-title").textContent = `Loading ${next.id} ...`;
    drawCases();
    const data = await load(next.id);
    if (!flat) await view.show(data);
    current = data;
    look($("look").value);
    review = store.of(next);
    $("case-title").textContent = next.id;
    $("about").textContent = data.about;
    drawNotes();
    drawTools();
    drawPicture();
    drawReview();
    if (data.findings.length) choose(0);
    document.body.dataset.ready = next.id;
  }

  function drawNotes() {
    $("notes").replaceChildren(...current.notes.map((text) => make("li", text)));
  }

  function drawPicture() {
    $("picture").hidden = !flat;
    $("view").hidden = $("tools").hidden = Boolean(flat);
    if (!flat) return;
    $("why-picture").textContent = `${flat}: a picture stands for the three planes.`;
    $("picture").querySelector("img")?.remove();
    if (!current.picture) {
      $("why-picture").textContent = `${flat}, and this case has no picture; the table of findings is complete.`;
      return;
    }
    const image = make("img");
    image.src = current.picture;
    image.alt = `Slices of ${current.id} with anomaly map`;
    $("picture").append(image);
  }

  /* Display */

  function drawTools() {
    if (flat) return;
    $("cut").hidden = !current.map;
    $("cut").style.display = current.map ? "" : "none";
    [$("low").value, $("high").value] = view.window().map((each) => Number(each.toPrecision(5)));
    if (!current.map) return;
    const low = Math.max(current.display.lo, current.map.low), step = (current.map.high - low) / 400 || 1;
    Object.assign($("threshold"), { min: Math.ceil((low - current.threshold) / step), max: Math.ceil((current.map.high - current.threshold) / step), step: 1 });
    $("threshold").dataset.size = step;
    cut(current.threshold, false);
  }

  function cut(value, isChange) {
    if (flat || !current?.map || !Number.isFinite(value)) return;
    const voxels = view.setThreshold(value);
    $("threshold").value = Math.round((value - current.threshold) / $("threshold").dataset.size);
    $("value").value = Number(value.toPrecision(7));
    $("above").textContent = `${voxels} voxels, ${fixed(voxels * view.voxelMl, 2)} ml at or above`;
    $("above").dataset.voxels = voxels;
    for (const [n, each] of current.findings.entries()) $("findings").children[n]?.classList.toggle("below", each.peak < value);
    if (isChange && review) {
      review.threshold = value;
      store.changed(entry.id);
    }
  }

  let shown = "filled"; // what H comes back to
  function look(next) {
    if (flat || !current) return;
    $("look").value = next;
    if (next !== "off") shown = next;
    $("opacity").disabled = next !== "filled";
    view.setLook(next, $("opacity").value / 100);
  }

  function moved(ras, values) {
    const [r, a, s] = ras.map((each) => fixed(each, 1));
    const numbers = values.map((each) => Number(each).toPrecision(4)).join(", map ");
    $("position").textContent = `R ${r}, A ${a}, S ${s} mm${run.blind ? "" : `; image ${numbers}`}`;
  }

  /* Findings */

  function judged(finding) {
    return review.findings.find((each) => each.label === finding.label);
  }

  function drawReview() {
    $("findings").replaceChildren(...current.findings.map((each, n) => {
      const button = make("button"), said = judged(each);
      button.type = "button";
      const scores = each.peak === null ? "" : `, peak ${fixed(each.peak, 3)}`;
      button.append(make("span", said ? `${SIGNS[said.verdict]} ` : "· ", said?.verdict));
      button.append(make("span", `${n + 1}: ${fixed(each.volume_mm3 / 1000, 2)} ml ${each.side}`));
      button.append(make("small", ` at ${each.peak_ras.map((x) => fixed(x, 0)).join(", ")}${scores}${said ? `, ${said.verdict}` : ""}${said?.note ? ", note" : ""}`));
      button.setAttribute("aria-current", String(n === chosen));
      button.addEventListener("click", () => choose(n));
      const item = make("li");
      item.append(button);
      return item;
    }));
    $("findings-title").textContent = current.findings.length ? `Findings: ${review.findings.length} of ${current.findings.length} judged` : "No finding";
    drawVerdict();
    drawMissed();
    $("finished").checked = review.finished;
    drawCases();
  }

  function drawVerdict() {
    const finding = current.findings[chosen], said = finding && judged(finding);
    for (const button of $("verdicts").querySelectorAll("button")) {
      button.disabled = !finding;
      button.setAttribute("aria-pressed", String(said?.verdict === button.dataset.verdict));
    }
    $("note").disabled = !finding;
    $("note").value = said?.note || "";
  }

  function choose(n) {
    if (!current?.findings.length) return;
    chosen = Math.min(Math.max(n, 0), current.findings.length - 1);
    for (const [m, item] of [...$("findings").children].entries()) item.firstChild.setAttribute("aria-current", String(m === chosen));
    // The list scrolls, never the page: on a phone the picture must stay.
    const item = $("findings").children[chosen], top = item.offsetTop - $("findings").offsetTop, bottom = top + item.offsetHeight;
    if (top < $("findings").scrollTop) $("findings").scrollTop = top;
    else if (bottom > $("findings").scrollTop + $("findings").clientHeight) $("findings").scrollTop = bottom - $("findings").clientHeight;
    drawVerdict();
    if (!flat) view.jump(current.findings[chosen].peak_ras);
  }

  function judge(verdict, note) {
    const finding = current?.findings[chosen];
    if (!finding || !review) return;
    const said = judged(finding);
    if (verdict && said?.verdict === verdict) review.findings.splice(review.findings.indexOf(said), 1);
    else if (said) Object.assign(said, verdict ? { verdict } : { note });
    else review.findings.push({ label: finding.label, peak_ras: finding.peak_ras, verdict: verdict || "unsure", note: note || "", rank: finding.rank });
    store.changed(entry.id);
    if (verdict || !said) drawReview();
  }

  function drawMissed() {
    $("missed").replaceChildren(...review.missed.map((each, n) => {
      const item = make("li"), go = make("button", `${n + 1}: at ${each.ras.map((x) => fixed(x, 0)).join(", ")}`);
      const note = make("input"), away = make("button", "Remove");
      go.type = away.type = "button";
      note.value = each.note;
      note.maxLength = 2000;
      note.setAttribute("aria-label", `Note on missed ${n + 1}`);
      away.setAttribute("aria-label", `Remove missed ${n + 1}`);
      go.addEventListener("click", () => flat || view.jump(each.ras));
      note.addEventListener("input", () => { each.note = note.value; store.changed(entry.id); });
      away.addEventListener("click", () => { review.missed.splice(n, 1); store.changed(entry.id); drawReview(); });
      item.append(go, " ", away, note);
      return item;
    }));
    $("mark").disabled = Boolean(flat);
  }

  function mark() {
    if (flat || !review) return;
    review.missed.push({ ras: view.position().map((x) => Number(x.toFixed(3))), note: "" });
    store.changed(entry.id);
    drawReview();
  }

  function finish(isFinished) {
    if (!review) return;
    review.finished = isFinished;
    store.changed(entry.id);
    drawReview();
  }

  /* Files */

  function download() {
    const text = JSON.stringify(store.all(), null, 1), link = make("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = `review-${store.reader.replace(/[^A-Za-z0-9._-]+/g, "_")}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  async function upload(file) {
    try {
      const data = JSON.parse(await file.text());
      if (data.format !== "zsadclip-review" || data.version !== 1 || !Array.isArray(data.cases)) throw new Error("it is no review file");
      await setReader(String(data.reviewer));
      const taken = data.cases.filter((each) => store.take(each));
      for (const each of taken) store.changed(each.id, 0);
      say(`${taken.length} of ${data.cases.length} cases taken from ${file.name}; the others are of other results`, taken.length < data.cases.length);
      if (entry) open(entry);
    } catch (error) {
      say(`${file.name} was not taken: ${error.message}`, true);
    }
  }

  async function setReader(name) {
    const reader = name.trim().slice(0, 40) || "anonymous";
    $("reader").value = reader;
    try {
      localStorage.setItem("zsadclip:reader", reader);
    } catch { /* Storage is off; the name is asked for next time. */ }
    review = null;
    await store.open(reader);
    if (entry) await open(entry);
    else drawCases();
  }

  /* Keys */

  const KEYS = {
    j: () => choose(chosen + 1), k: () => choose(chosen - 1), a: () => judge("accept"), r: () => judge("reject"), u: () => judge("unsure"),
    n: () => $("note").focus(), m: mark, f: () => finish(!review?.finished), h: () => look(view.look === "off" ? shown : "off"),
    o: () => look(view.look === "outline" ? "filled" : "outline"), x: () => $("crosshair").click(),
    "]": () => beside(1), "[": () => beside(-1),
  };
  const STEPS = { ArrowLeft: [-1, 0, 0], ArrowRight: [1, 0, 0], ArrowUp: [0, 1, 0], ArrowDown: [0, -1, 0], PageUp: [0, 0, 1], PageDown: [0, 0, -1] };

  function beside(step) {
    const next = run.cases[run.cases.indexOf(entry) + step];
    if (next) open(next);
  }

  function pressed(event) {
    active = Date.now();
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const at = event.target;
    if (event.key === "Escape" && at.blur) at.blur();
    if (at.matches("textarea, input:not([type=checkbox]):not([type=range])")) return;
    const act = KEYS[event.key.toLowerCase()];
    const step = at === $("canvas") && STEPS[event.key];
    if (!act && !step) return;
    event.preventDefault();
    event.stopPropagation();
    if (step) view.step(...step);
    else act();
  }

  /* Start */

  function listen() {
    document.addEventListener("keydown", pressed, true);
    document.addEventListener("pointermove", () => { active = Date.now(); });
    document.addEventListener("visibilitychange", () => document.hidden && store.flush());
    setInterval(() => {
      // Time counts while somebody is at it.
      if (review && !document.hidden && Date.now() - active < 60000) review.seconds += 1;
    }, 1000);
    $("threshold").addEventListener("input", () => cut(current.threshold + $("threshold").value * $("threshold").dataset.size, true));
    $("value").addEventListener("change", () => cut(Number($("value").value), true));
    $("stored").addEventListener("click", () => cut(current.threshold, true));
    for (const [id, kind] of [["opacity", "input"], ["look", "change"]]) $(id).addEventListener(kind, () => look($("look").value));
    $("crosshair").addEventListener("change", () => view.setCrosshair($("crosshair").checked));
    $("smooth").addEventListener("change", () => view.setSmooth($("smooth").checked));
    for (const id of ["low", "high"]) $(id).addEventListener("change", () => view.setWindow(Number($("low").value), Number($("high").value)));
    $("canvas").addEventListener("pointerup", () => { if (current && !flat) [$("low").value, $("high").value] = view.window().map((each) => Number(each.toPrecision(5))); });
    $("tools").addEventListener("submit", (event) => event.preventDefault());
    for (const button of $("verdicts").querySelectorAll("button")) button.addEventListener("click", () => judge(button.dataset.verdict));
    $("note").addEventListener("input", () => judge(null, $("note").value));
    $("mark").addEventListener("click", mark);
    $("finished").addEventListener("change", () => finish($("finished").checked));
    $("download").addEventListener("click", download);
    $("upload").addEventListener("change", () => $("upload").files[0] && upload($("upload").files[0]));
    $("reader").addEventListener("change", () => setReader($("reader").value));
    $("theme").addEventListener("click", () => {
      const isDark = getComputedStyle(document.body).backgroundColor !== "rgb(255, 255, 255)";
      document.documentElement.dataset.theme = isDark ? "light" : "dark";
    });
  }

  async function start() {
    document.title = `${run.title}: ZSADCLIP review`;
    listen();
    try {
      await view.start();
    } catch (error) {
      flat = error.message || String(error);
    }
    let reader = "";
    try {
      reader = localStorage.getItem("zsadclip:reader") || "";
    } catch { /* Storage is off. */ }
    await setReader(reader);
    const asked = decodeURIComponent(location.hash.slice(1));
    const first = run.cases.find((each) => each.id === asked) || run.cases.find((each) => !store.reviews.get(each.id)?.finished) || run.cases[0];
    await open(first);
    zsadclip.view = view;
    zsadclip.store = store;
  }

  start();
})();
