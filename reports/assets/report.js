"use strict";

// What the page's scripts share. Data comes in as scripts, for a page opened from a file may not fetch.
const report = (() => {
  const waiting = new Map(); // name -> {promise, resolve}

  function script(address) {
    return new Promise((resolve, reject) => {
      const element = document.createElement("script");
      element.src = address;
      element.onload = resolve;
      element.onerror = () => reject(new Error(`${address} cannot be read`));
      document.head.append(element);
    });
  }

  // The value that was written as data/<name>.js, read when first asked for.
  function load(name) {
    if (!waiting.has(name)) {
      const entry = {};
      entry.promise = new Promise((resolve, reject) => {
        entry.resolve = resolve;
        script(`data/${encodeURIComponent(name)}.js`).catch(reject);
      });
      waiting.set(name, entry);
    }
    return waiting.get(name).promise;
  }

  function deliver(name, value) {
    waiting.get(name)?.resolve(value);
  }

  return { load, deliver, script };
})();
