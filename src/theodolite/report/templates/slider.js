// Sliders that walk through a figure, where motion is welcome; what a step shows is said beside them, too.
(() => {
  "use strict";
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  for (const chart of document.querySelectorAll("main .chart")) {
    const given = figures.slider(chart.dataset.figure);
    if (!given) continue;
    const row = document.createElement("label");
    row.className = "walk";
    const input = Object.assign(document.createElement("input"), { type: "range", min: 0, max: given.said.length - 1, value: 0 });
    const said = document.createElement("output");
    const walk = (step) => {
      said.textContent = given.said[Math.max(step, 0)];
      input.setAttribute("aria-valuetext", said.textContent);
      figures.walk(chart, step);
    };
    input.addEventListener("input", () => walk(input.valueAsNumber));
    row.append(`${given.label} `, input, said);
    document.querySelector(`[data-for="${CSS.escape(chart.dataset.figure)}"]`).prepend(row);
    const settle = () => {
      row.hidden = still.matches;
      walk(-1);
      input.value = 0;
    };
    still.addEventListener("change", settle);
    settle();
  }
})();
