// Keeps the page up to date while a survey runs: asks as often as the server says, while somebody looks, and writes text only.
(() => {
  "use strict";
  const EVERY = 2; // seconds, where the server has not said
  const SVG = "http://www.w3.org/2000/svg";
  const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP] = [340, 150, 52, 22, 8];

  function make(tag, content = [], attributes = {}) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...[content].flat());
    return element;
  }
  function drawn(tag, attributes, content = "") {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(content);
    return element;
  }
  const cell = (content) => make("td", String(content), { class: "right" });

  const section = make("section", [], { id: "live", "aria-labelledby": "live-title" });
  const news = make("output", "", { "aria-live": "polite" });
  const problem = make("p", "", { class: "errors", role: "alert" });
  const body = make("tbody");
  const names = ["Study", "Share done", "Done", "Diverged", "Running", "Failed", "Left"];
  const table = make("table", [
    make("thead", make("tr", names.map((name, n) => make("th", name, { scope: "col", ...(n > 1 && { class: "right" }) })))),
    body,
  ], { class: "data" });
  const failures = make("div");
  const curves = make("div", [], { class: "figures" });
  const reload = make("button", "Show the newest figures and tables", { type: "button" });
  reload.hidden = true;
  problem.hidden = true;
  reload.addEventListener("click", () => location.reload());
  section.append(
    make("h2", "Now", { id: "live-title" }), make("p", [news, " ", reload]), problem,
    make("div", table, { class: "scroll", role: "region", "aria-label": "Runs of each study", tabindex: "0" }),
    failures, curves,
  );
  document.querySelector("main").prepend(section);
  document.querySelector("nav").prepend(make("a", "Now", { href: "#live" }), " ");

  function row(study) {
    const share = make("progress", "", { value: study.done, max: Math.max(1, study.total) });
    const percent = Math.floor((100 * study.done) / Math.max(1, study.total));
    share.setAttribute("aria-label", `${study.title}: ${study.done} of ${counted(study.total, "run")} done`);
    const counts = [study.done, study.diverged, study.running, study.failed, study.left];
    return make("tr", [
      make("th", [study.title, make("span", ` ${study.preset}`, { class: "soft" })], { scope: "row" }),
      make("td", [share, ` ${percent} %`]), ...counts.map(cell),
    ]);
  }

  function failed(study) {
    if (!study.errors.length) return [];
    const items = study.errors.map(({ reason, runs }) => make("li", [
      `${reason} `, make("span", `${runs.length} × (${runs.slice(0, 4).join(", ")}${runs.length > 4 ? ", …" : ""})`, { class: "soft" }),
    ]));
    return [make("h3", `Failed in ${study.title}`), make("ul", items, { class: "errors" })];
  }

  const counted = (count, one) => `${count} ${one}${count === 1 ? "" : "s"}`;
  const plain = (value) => value === 0 || (Math.abs(value) >= 1e-3 && Math.abs(value) < 1e4);
  const short = (value) => {
    const written = String(plain(value) ? Number(value.toPrecision(3)) : value.toExponential(1));
    return written.replace("+", "").replaceAll("-", "−");
  };

  // Loss over epochs of the runs under way: training as a line, test dashed; logarithmic where every loss allows it.
  function curve(study) {
    const every = study.curves.flatMap(({ train, test }) => [...train, ...test]).filter((value) => value !== null);
    const last = Math.max(...study.curves.flatMap(({ epoch }) => epoch), 1);
    if (!every.length) return [];
    const log = every.every((value) => value > 0);
    const scale = log ? Math.log10 : (value) => value;
    const [low, high] = [Math.min(...every), Math.max(...every)];
    const span = scale(high) - scale(low) || 1;
    const x = (epoch) => LEFT + ((WIDTH - LEFT - 4) * epoch) / last;
    const y = (loss) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - (scale(loss) - scale(low)) / span);
    const path = (epochs, losses) => {
      let pen = "M";
      const parts = [];
      epochs.forEach((epoch, n) => {
        if (losses[n] === null) { pen = "M"; return; }
        parts.push(`${pen}${x(epoch).toFixed(1)} ${y(losses[n]).toFixed(1)}`);
        pen = "L";
      });
      return parts.join("");
    };
    const count = study.curves.length + study.more_curves;
    const picture = drawn("svg", {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", style: "width: 100%; max-width: 30rem", fill: "none", stroke: "currentColor", class: "marks",
      "aria-label": `Loss of ${counted(count, "run")} of ${study.title} so far, between ${short(low)} and ${short(high)}, up to epoch ${last}`,
    });
    picture.append(drawn("path", { d: `M${LEFT} ${TOP}V${HEIGHT - BOTTOM}H${WIDTH - 4}`, opacity: "0.4" }));
    const label = { fill: "currentColor", stroke: "none", "font-size": "11" };
    picture.append(
      drawn("text", { ...label, x: LEFT - 6, y: TOP + 9, "text-anchor": "end" }, `${short(high)}`),
      drawn("text", { ...label, x: LEFT - 6, y: HEIGHT - BOTTOM, "text-anchor": "end" }, `${short(low)}`),
      drawn("text", { ...label, x: LEFT, y: HEIGHT - 6 }, "0"),
      drawn("text", { ...label, x: WIDTH - 4, y: HEIGHT - 6, "text-anchor": "end" }, `epoch ${last}`),
    );
    for (const { label: name, epoch, train, test } of study.curves) {
      const group = drawn("g", { "stroke-width": "1.4", opacity: "0.75" });
      group.append(
        drawn("title", {}, name),
        drawn("path", { d: path(epoch, train), class: "train" }),
        drawn("path", { d: path(epoch, test), class: "test", "stroke-dasharray": "3 3" }),
      );
      picture.append(group);
    }
    const more = study.more_curves ? `, ${study.more_curves} more ${study.more_curves === 1 ? "is" : "are"} not drawn` : "";
    return [make("figure", [
      make("h3", `${study.title}: runs under way`), picture,
      make("figcaption", `Loss on the training set (line) and the test set (dashed)${log ? ", logarithmic" : ""}; ${counted(count, "run")}${more}.`),
    ])];
  }

  // Verdicts in the table and beside the claims; one that the page does not have yet comes with the next page.
  function judge(verdict) {
    const link = document.querySelector(`table.verdicts a[href="#${CSS.escape(verdict.row)}"]`);
    if (!link) return;
    const line = link.closest("tr");
    const [, decision, estimate, , seeds, alone] = line.cells;
    const row = document.querySelector(`.forest a[href="#${CSS.escape(verdict.row)}"]`);
    for (const entry of [line, row?.closest("li")]) if (entry) entry.dataset.verdict = verdict.verdict;
    estimate.textContent = verdict.estimate;
    seeds.textContent = verdict.seeds;
    alone.textContent = verdict.alone;
    const beside = document.getElementById(verdict.row);
    const badges = [decision, beside].map((place) => place?.querySelector(".verdict")).filter(Boolean);
    for (const badge of badges) {
      badge.className = `verdict ${verdict.verdict}`;
      badge.textContent = verdict.decision;
    }
    const symbol = row?.querySelector(".verdict");
    if (symbol) {
      symbol.className = `verdict ${verdict.verdict}`;
      symbol.firstElementChild.textContent = verdict.decision.slice(0, 1);
      symbol.lastElementChild.textContent = `${verdict.verdict}, ${verdict.estimate}`;
    }
    const number = beside?.querySelector("b.number");
    if (number) number.textContent = verdict.estimate;
  }

  // At the pace since this page began to look; runs differ in length, so it is a guess, and none before a few are done.
  let began = null;
  function timeLeft(done, left) {
    began ??= { done, time: Date.now() };
    const [more, seconds] = [done - began.done, (Date.now() - began.time) / 1000];
    if (more < 3 || !left) return "";
    const wait = (left * seconds) / more;
    const said = wait < 90 ? `${Math.max(5, 5 * Math.round(wait / 5))} s` : wait < 5400 ? `${Math.round(wait / 60)} min` : `${(wait / 3600).toFixed(1)} h`;
    return ` About ${said} to go at this pace.`;
  }

  let tag = null;
  function show(state) {
    const sum = (key) => state.studies.reduce((total, study) => total + study[key], 0);
    const counts = `${sum("done")} of ${counted(sum("total"), "run")} done, ${sum("running")} running, ${sum("failed")} failed, ${sum("left")} left`;
    const recordings = sum("running"); // where no survey runs: each holds its own folder
    const alone = recordings ? `${counted(recordings, "recording")} ${recordings === 1 ? "is" : "are"} running` : "No survey is running";
    const unfinished = sum("total") - sum("done") - sum("failed");
    const survey = state.studies.length && !unfinished ? "All runs are done, the report is being made" : "A survey is running";
    news.textContent = `${state.running ? survey : alone}: ${counts}.${state.running ? timeLeft(sum("done"), unfinished) : ""}`;
    problem.hidden = !state.problem;
    problem.textContent = state.problem;
    body.replaceChildren(...state.studies.map(row));
    failures.replaceChildren(...state.studies.flatMap(failed));
    curves.replaceChildren(...state.studies.flatMap(curve));
    reload.hidden = state.page === document.body.dataset.page; // of this page, whatever the server has by now
    state.verdicts.forEach(judge);
  }

  let timer = null;
  let every = EVERY;
  async function ask() {
    timer = null;
    try {
      const answer = await fetch("/live.json", { cache: "no-store", headers: tag ? { "If-None-Match": tag } : {} });
      if (answer.status === 200) {
        tag = answer.headers.get("ETag");
        const state = await answer.json();
        every = state.every;
        show(state);
      } else if (answer.status !== 304) throw new Error(answer.statusText);
    } catch {
      every = EVERY;
      news.textContent = "The server does not answer: it was stopped, or is starting again.";
    }
    if (!document.hidden) timer = setTimeout(ask, 1000 * every);
  }
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && timer === null) ask();
  });
  ask();
})();
