"use strict";

// A page that is served while its runs are training loads itself again when it was built again. What is chosen stands in
// the address and stays.
document.addEventListener("DOMContentLoaded", () => {
  const EVERY = 3000; // milliseconds
  const { version } = document.body.dataset;
  if (!version || location.protocol === "file:") return;

  // Not while something is being typed, or an image is looked at.
  const isBusy = () => document.activeElement?.matches("input[type=search], input[type=number]") || document.getElementById("image-view")?.open;

  setInterval(async () => {
    const now = await report.loadAgain("version").catch(() => version); // the server has ended
    if (now !== version && !isBusy()) location.reload();
  }, EVERY);
});
