// The rest of the page: theme, filter, sorting, downloads, folds. Everything works without it but the figures.
(() => {
  "use strict";
  const { tables } = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  root.classList.add("js");
  const { charts, again } = figures.start();
  const chartOf = (id) => charts.find((chart) => chart.dataset.figure === id);

  // A page opened from a file may have no storage; the choice then lasts as long as the page.
  const remembered = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const remember = (theme) => { try { localStorage.setItem("theme", theme); } catch { /* see above */ } };

  const themes = ["automatic", "light", "dark"];
  const button = document.getElementById("theme");
  function apply(theme) {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    else delete root.dataset.theme;
    button.textContent = `Theme: ${root.dataset.theme ?? "automatic"}`;
    again();
  }
  button.addEventListener("click", () => {
    const next = themes[(themes.indexOf(root.dataset.theme ?? "automatic") + 1) % themes.length];
    apply(next);
    remember(next);
  });
  apply(["#dark", "#light"].includes(location.hash) ? location.hash.slice(1) : remembered());

  function save(name, blob) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  const dialog = document.getElementById("large");
  function enlarge(id) {
    const chart = document.createElement("div");
    chart.className = "chart";
    chart.dataset.figure = id;
    chart.dataset.seeds = chartOf(id).dataset.seeds ?? "false";
    chart.dataset.step = chartOf(id).dataset.step ?? "-1";
    document.getElementById("large-title").textContent = chartOf(id).dataset.title;
    document.getElementById("large-caption").textContent = chartOf(id).dataset.caption;
    const frame = dialog.querySelector(".frame");
    frame.replaceChildren(chart);
    dialog.showModal();
    figures.enlarge(chart, frame.clientWidth, frame.clientHeight).then(() => chart.focus());
  }

  const acts = {
    enlarge,
    reset: (id) => figures.reset(chartOf(id)),
    csv: (id) => save(`${id}.csv`, new Blob([tables[id]], { type: "text/csv" })),
    svg: async (id) => save(`${id}.svg`, await figures.file(id, "svg")),
    png: async (id) => save(`${id}.png`, await figures.file(id, "png")),
  };
  const switches = [...document.querySelectorAll("[data-act=seeds]")];
  const owner = (control) => control.closest("[data-for]").dataset.for;
  for (const control of switches) control.parentElement.hidden = !figures.hasSeeds(owner(control));
  document.addEventListener("click", (event) => {
    const control = event.target.closest("button[data-act]");
    if (control) acts[control.dataset.act](owner(control));
  });
  const all = document.getElementById("all-seeds");
  document.addEventListener("change", ({ target }) => {
    if (target === all) for (const control of switches) {
      control.checked = all.checked;
      figures.seeds(chartOf(owner(control)), all.checked);
    }
    if (target.dataset.act === "seeds") figures.seeds(chartOf(owner(target)), target.checked);
  });

  // Sorting: up, down, as it was. Numbers by their value, whatever stands behind them; what is none comes last.
  const number = (text) => {
    const found = /^(−?)(∞|[\d.]+(?:e−?\d+)?)/.exec(text.trim());
    if (!found) return null;
    return (found[1] ? -1 : 1) * (found[2] === "∞" ? Infinity : Number(found[2].replace("−", "-")));
  };
  const words = new Intl.Collator("en", { numeric: true });
  function sortable(table) {
    const body = table.tBodies[0];
    const original = [...body.rows];
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const control = document.createElement("button");
      control.type = "button";
      control.append(...head.childNodes);
      head.append(control);
      control.addEventListener("click", () => {
        const next = { none: "ascending", ascending: "descending", descending: "none" }[head.ariaSort ?? "none"];
        for (const other of table.tHead.rows[0].cells) other.ariaSort = null;
        if (next !== "none") head.ariaSort = next;
        const sign = next === "descending" ? -1 : 1;
        const numeric = head.classList.contains("right");
        const key = (row) => row.cells[column].textContent.trim();
        const byValue = (a, b) => {
          if (!numeric) return sign * words.compare(key(a), key(b));
          const [x, y] = [number(key(a)), number(key(b))];
          if (x === null || y === null) return (x === null) - (y === null);
          return x === y ? 0 : sign * (x < y ? -1 : 1);
        };
        body.append(...(next === "none" ? original : original.toSorted(byValue)));
      });
    });
  }
  document.querySelectorAll("table.sortable").forEach(sortable);

  const filter = document.getElementById("filter");
  const entries = [...document.querySelectorAll("#summary [data-verdict]")]; // rows of the picture, and of the table
  function sift() {
    const wanted = new FormData(filter);
    const [kinds, study] = [wanted.getAll("verdict"), wanted.get("study")];
    const sought = wanted.get("text").trim().toLowerCase();
    for (const row of entries) {
      const content = `${row.textContent} ${row.dataset.text}`.toLowerCase();
      row.hidden = !(
        kinds.includes(row.dataset.verdict) && (!study || study === row.dataset.study) && content.includes(sought)
      );
    }
    const drawn = entries.filter((row) => row.matches("li"));
    filter.querySelector("output").textContent = `${drawn.filter((row) => !row.hidden).length} of ${drawn.length} claims`;
  }
  filter?.addEventListener("input", sift);
  filter?.addEventListener("submit", (event) => event.preventDefault());
  if (filter) sift();

  // Contents: the section that is read now, which the narrow page's strip of contents keeps in sight.
  const nav = document.querySelector("nav");
  const sections = [...document.querySelectorAll("main > section[id]")];
  function mark() {
    const line = 0.3 * innerHeight;
    const now = sections.findLast((section) => section.getBoundingClientRect().top <= line) ?? sections[0];
    for (const link of nav.querySelectorAll("a")) {
      const current = link.hash === `#${now?.id}`;
      if (current === link.hasAttribute("aria-current")) continue;
      link.toggleAttribute("aria-current", current);
      if (current) link.setAttribute("aria-current", "true");
      if (current) nav.scrollTo({ left: link.offsetLeft - 16, top: link.offsetTop - nav.clientHeight / 2 });
    }
  }
  let marking = false;
  addEventListener("scroll", () => {
    if (marking) return;
    marking = true;
    requestAnimationFrame(() => { marking = false; mark(); });
  }, { passive: true });
  mark();

  // On paper every fold is open and every claim is there.
  let folds = [];
  addEventListener("beforeprint", () => {
    folds = [...document.querySelectorAll("details:not([open])")];
    folds.forEach((fold) => { fold.open = true; });
  });
  addEventListener("afterprint", () => folds.forEach((fold) => { fold.open = false; }));
})();
