"use strict";

// Scores of each class as table rows: `mistakes` is the content of data/mistakes-<key>.js.
const classScores = (() => {
  const { element, score } = report;
  // Columns of `perClass`.
  const F1 = 0;
  const SUPPORT = 5;

  // `opened` is called with a class that is pressed, if the page has its images.
  function rows(mistakes, opened = null) {
    return mistakes.perClass.map(([f1, precision, recall, low, high, support, right, confusedWith], label) => {
      const number = (text, order) => element("td", { class: "number", "data-order": order }, text);
      const other = mistakes.classes[confusedWith];
      return element(
        "tr",
        {},
        element("th", { scope: "row" }, name(mistakes, label, opened)),
        number(score(f1, 3), f1),
        number(score(precision, 3), precision),
        number(`${score(recall, 3)} (${right} of ${support})`, recall),
        number(support ? `${score(low, 2)} to ${score(high, 2)}` : "–", support ? low : ""),
        number(String(support), support),
        element("td", { "data-order": other ?? "" }, other ?? "–"),
      );
    });
  }

  function name(mistakes, label, opened) {
    if (!opened) return mistakes.classes[label];
    const title = "show its images in the gallery";
    return element("button", { type: "button", class: "link", title, click: () => opened(label) }, mistakes.classes[label]);
  }

  return { rows, F1, SUPPORT };
})();
