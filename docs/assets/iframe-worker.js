// Browsers start no worker from file://. There the search runs in a hidden frame instead, which looks like a worker to the page.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      this.waiting = [];
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      this.inside = frame.contentWindow;
      const page = frame.contentDocument;
      // What the worker posts goes to the page, not to the frame itself.
      this.inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      this.inside.importScripts = (...files) =>
        files.reduce((last, file) => last.then(() => this.load(page, file)), Promise.resolve());
      this.load(page, address).then(() => {
        for (const data of this.waiting.splice(0)) this.give(data);
        this.ready = true;
      });
    }

    load(page, address) {
      return new Promise((done) => {
        const script = page.createElement("script");
        script.src = address;
        script.onload = done;
        page.body.append(script);
      });
    }

    give(data) {
      this.inside.dispatchEvent(new this.inside.MessageEvent("message", { data }));
    }

    postMessage(data) {
      if (this.ready) this.give(data);
      else this.waiting.push(data);
    }

    terminate() {
      this.inside.frameElement.remove();
    }
  };
}
