/* What a reader said of the cases: kept in the browser, or in the run when the page is served. */
"use strict";

zsadclip.Store = class {
  /** `run` is the page's list of cases, `says` is told how saving went: says(text, isBad). */
  constructor(run, says) {
    this.run = run;
    this.says = says;
    this.reader = "";
    this.reviews = new Map();
    this.waiting = new Map();
  }

  /** Load what a reader said before. */
  async open(reader) {
    await this.flush();
    this.reader = reader;
    this.reviews.clear();
    const known = zsadclip.served ? await this.fromServer() : this.fromBrowser();
    for (const review of known) this.take(review);
  }

  /** The review of a case, an empty one where there is none yet. */
  of(entry) {
    if (!this.reviews.has(entry.id)) {
      this.reviews.set(entry.id, {
        id: entry.id, seal: entry.seal, threshold: null, findings: [], missed: [], finished: false, seconds: 0,
      });
    }
    return this.reviews.get(entry.id);
  }

  /** Keep a review; true where it belongs to a result of this page. */
  take(review) {
    const entry = this.run.cases.find((each) => each.id === review.id && each.seal === review.seal);
    if (entry) this.reviews.set(entry.id, review);
    return Boolean(entry);
  }

  /** Save a case soon; several changes become one. */
  changed(id, pause = 300) {
    clearTimeout(this.waiting.get(id));
    this.waiting.set(id, setTimeout(() => this.save(id), pause));
  }

  /** Save at once what waits. */
  async flush() {
    await Promise.all([...this.waiting.keys()].map((id) => this.save(id)));
  }

  async save(id) {
    clearTimeout(this.waiting.get(id));
    this.waiting.delete(id);
    const review = this.reviews.get(id);
    if (!review) return;
    try {
      if (zsadclip.served) {
        const answer = await fetch(`review/${id}`, {
          method: "PUT", headers: { "Content-Type": "application/json" }, body: JSON.stringify(this.file([review])), keepalive: true,
        });
        if (!answer.ok) throw new Error(await answer.text());
        this.says("Saved in the run", false);
      } else {
        localStorage.setItem(this.key(review), JSON.stringify(review));
        this.says("Kept in this browser; save the review file to pass it on", false);
      }
    } catch (error) {
      this.says(`NOT SAVED (${error.message}); save the review file now`, true);
    }
  }

  key(review) {
    return `zsadclip:${this.reader}:${review.id}:${review.seal}`;
  }

  fromBrowser() {
    try {
      return this.run.cases.map((entry) => JSON.parse(localStorage.getItem(this.key(entry)))).filter(Boolean);
    } catch (error) {
      this.says(`This browser keeps nothing for the page (${error.message}); save the review file before you leave`, true);
      return [];
    }
  }

  async fromServer() {
    try {
      const answer = await fetch(`reviews?reader=${encodeURIComponent(this.reader)}`);
      if (!answer.ok) throw new Error(await answer.text());
      const file = await answer.json();
      return file ? file.cases : [];
    } catch (error) {
      this.says(`The server does not answer (${error.message}); start zsadclip review --serve again`, true);
      return [];
    }
  }

  /** The review file of some cases. */
  file(reviews) {
    return {
      format: "zsadclip-review", version: 1, reviewer: this.reader, blind: this.run.blind, software: this.run.software, cases: reviews,
    };
  }

  /** Whether something was said of a case. */
  said(review) {
    return Boolean(review && (review.findings.length || review.missed.length || review.finished));
  }

  /** The review file of every case that something was said of. */
  all() {
    return this.file(this.run.cases.map((entry) => this.reviews.get(entry.id)).filter((each) => this.said(each)));
  }
};
