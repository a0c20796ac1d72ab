"use strict";

// Work for an element, which starts when the element comes near the view.
const near = (() => {
  const MARGIN = "400px"; // of the view: about half a window further down or up
  const QUIET = 3000; // milliseconds without input before work starts that the reader has not scrolled to
  const INPUTS = ["pointerdown", "keydown", "wheel", "touchmove"];

  const waiting = new Map(); // element -> task
  const prepared = []; // work for a time without input, in order
  let lastInput = 0;

  const observer = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) if (isIntersecting) begin(target);
    },
    { rootMargin: MARGIN },
  );

  // Calls `task` when `element` comes near the view. `prepare` is called when the browser is idle, so that a printed page
  // is complete: it is the task itself unless the task can start as the page is printed; null: nothing.
  function when(element, task, prepare = () => begin(element)) {
    waiting.set(element, task);
    observer.observe(element);
    if (prepare) prepared.push(prepare);
  }

  async function begin(element) {
    const task = waiting.get(element);
    waiting.delete(element);
    observer.unobserve(element);
    await task?.();
  }

  const idle = window.requestIdleCallback ?? ((task) => setTimeout(task, 200));

  function workWhenIdle() {
    const left = lastInput + QUIET - performance.now();
    if (left > 0) return setTimeout(workWhenIdle, left);
    return idle(async () => {
      try {
        await prepared.shift()?.();
      } finally {
        setTimeout(workWhenIdle, prepared.length ? 0 : QUIET);
      }
    });
  }

  addEventListener("load", () => {
    lastInput = performance.now();
    for (const name of INPUTS) addEventListener(name, () => (lastInput = performance.now()), { capture: true, passive: true });
    setTimeout(workWhenIdle, QUIET);
  });

  return { when };
})();
