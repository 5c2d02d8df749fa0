// Draws the figures: in the page's theme and width, when they come into view, and all of them before printing.
const figures = (() => {
  "use strict";
  const { configs, swaps, figures: given } = JSON.parse(document.getElementById("data").textContent);
  const system = matchMedia("(prefers-color-scheme: dark)");
  const PAPER = 640; // pixels: the width of the figures as files, and of printed ones
  const margins = {}; // by figure: what axes and labels take beside the panels, measured on what was drawn

  const isDark = () => {
    const { theme } = document.documentElement.dataset;
    return theme ? theme === "dark" : system.matches;
  };

  // Vega reads CSV by making a function from text, which the page's policy forbids; so it is read here.
  function rows(text, kinds) {
    const cells = [...text.matchAll(/(?:"((?:[^"]|"")*)"|([^,\n]*))(,|\n|$)/g)];
    const lines = [[]];
    for (const [, quoted, plain, end] of cells) {
      lines.at(-1).push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
      if (end === "\n") lines.push([]);
      if (end === "") break;
    }
    const names = lines.shift();
    const read = (value, kind) => (kind !== "number" ? value : value === "" ? null : Number(value));
    return lines
      .filter((line) => line.length === names.length)
      .map((line) => Object.fromEntries(names.map((name, i) => [name, read(line[i], kinds[name])])));
  }

  function unpack(part, datasets) {
    if (!part || typeof part !== "object") return;
    const { data } = part;
    if (data?.format?.type === "csv") {
      const kinds = data.format.parse;
      if (typeof datasets[data.name] === "string") datasets[data.name] = rows(datasets[data.name], kinds);
      if (typeof data.values === "string") data.values = rows(data.values, kinds);
      delete data.format;
    }
    for (const [key, value] of Object.entries(part)) if (key !== "datasets") unpack(value, datasets);
  }

  function specification(name, dark) {
    let text = JSON.stringify(given[name]);
    if (dark) for (const [light, other] of Object.entries(swaps)) text = text.replaceAll(light, other);
    const spec = JSON.parse(text);
    unpack(spec, spec.datasets ?? {});
    return spec;
  }

  const panelsOf = (spec) => (spec.hconcat ?? spec.vconcat ?? [spec]).flatMap((panel) => panel.hconcat ?? panel);

  // Panels share the width there is; side by side they are stacked where that is narrow.
  function fit(spec, width, beside) {
    const rowsOf = spec.vconcat ?? [spec];
    for (const row of rowsOf) {
      if (!row.hconcat) continue;
      const flat = width < 520 && row === spec;
      if (flat) {
        spec.vconcat = spec.hconcat;
        delete spec.hconcat;
      }
    }
    for (const row of spec.vconcat ?? [spec]) {
      const panels = row.hconcat ?? [row];
      const each = Math.max(90, Math.floor((width - beside) / panels.length));
      for (const panel of panels) {
        // Where lengths are true on both axes, panels keep their shape; others keep their height.
        if (spec.usermeta?.square) panel.height = Math.round((panel.height * each) / panel.width);
        panel.width = each;
      }
    }
    return spec;
  }

  function heightOf(name) {
    const panels = panelsOf(given[name]).map((panel) => panel.height ?? 300);
    return (given[name].vconcat ? panels.reduce((sum, height) => sum + height, 0) : Math.max(...panels)) + 90;
  }

  // Text only, whatever a name holds.
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.setAttribute("role", "tooltip");
  tip.hidden = true;
  document.body.append(tip);
  function tooltip(_, event, __, value) {
    tip.hidden = value === null || value === undefined || value === "";
    if (tip.hidden) return;
    tip.replaceChildren(
      ...Object.entries(Object(value) === value ? value : { "": value }).map(([key, content]) => {
        const line = document.createElement("div");
        const term = document.createElement("span");
        term.textContent = key;
        line.append(term, ` ${content}`);
        return line;
      }),
    );
    (document.querySelector("dialog[open]") ?? document.body).append(tip);
    const [room, high] = [document.documentElement.clientWidth, document.documentElement.clientHeight];
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 12, room - tip.offsetWidth - 4))}px`;
    tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, high - tip.offsetHeight - 4))}px`;
  }

  function embed(target, spec, dark, width) {
    const config = configs[dark ? "dark" : "light"];
    const columns = Math.max(1, Math.floor(width / 130));
    return vegaEmbed(target, spec, {
      renderer: "svg",
      ast: true, // interprets expressions, so that the page's policy need not allow code from text
      defaultStyle: false,
      actions: false,
      tooltip,
      config: { ...config, legend: { ...config.legend, columns } },
    });
  }

  // The figure's own text says what it shows; the names that Vega gives to each of a thousand marks stay out of the way.
  function inner(chart) {
    const place = document.createElement("div");
    place.setAttribute("aria-hidden", "true");
    chart.replaceChildren(place);
    return place;
  }

  async function draw(chart, { width = chart.clientWidth, dark = isDark(), height } = {}) {
    const look = `${width} ${dark} ${height ?? ""}`;
    if (!width || chart.dataset.look === look) return;
    chart.dataset.look = look;
    const name = chart.dataset.figure;
    for (let attempt = 0; attempt < 3; attempt += 1) {
      const beside = margins[`${name} ${width < 520}`] ?? 84;
      const spec = fit(specification(name, dark), width, beside);
      if (height) for (const panel of panelsOf(spec)) panel.height = Math.max(panel.height ?? 0, height);
      const seeds = spec.params?.find((param) => param.name === "seeds");
      if (seeds) seeds.value = chart.dataset.seeds === "true";
      chart.view?.finalize();
      chart.view = (await embed(inner(chart), spec, dark, width)).view;
      const taken = Number(chart.querySelector("svg.marks").getAttribute("width"));
      if (taken <= width && taken > width - 24) break;
      margins[`${name} ${width < 520}`] = beside + taken - width;
    }
    chart.style.minHeight = "0";
  }

  const failed = (chart) => (error) => {
    chart.textContent = `This figure could not be drawn: ${error.message}`;
  };
  const show = (chart, options) => draw(chart, options).catch(failed(chart));

  // A figure as a file, the same as the one beside the page: light and at its own width, whatever the page looks like.
  async function file(name, kind) {
    const place = document.createElement("div");
    const { view } = await embed(place, specification(name, false), false, PAPER);
    if (kind === "svg") return new Blob([await view.toSVG()], { type: "image/svg+xml" });
    const canvas = await view.toCanvas(2);
    return new Promise((done) => canvas.toBlob(done, "image/png"));
  }

  const hasSeeds = (name) => Boolean(given[name].params?.some((param) => param.name === "seeds"));

  function seeds(chart, shown) {
    chart.dataset.seeds = String(shown);
    if (hasSeeds(chart.dataset.figure)) chart.view?.signal("seeds", shown).runAsync();
  }

  function start() {
    const charts = [...document.querySelectorAll(".chart")];
    const drawn = () => charts.filter((chart) => chart.dataset.look);
    const again = () => drawn().forEach((chart) => show(chart));
    for (const chart of charts) chart.style.minHeight = `${heightOf(chart.dataset.figure)}px`;
    const seen = new IntersectionObserver((entries) => {
      for (const { isIntersecting, target } of entries) if (isIntersecting) show(target);
    }, { rootMargin: "600px" });
    if (charts.length) show(charts[0]).then(() => charts.forEach((chart) => seen.observe(chart)));
    system.addEventListener("change", again);
    let timer;
    addEventListener("resize", () => {
      clearTimeout(timer);
      timer = setTimeout(again, 150);
    });
    // Drawing takes no task of its own, only promises, so that all figures are there when the browser lays out the pages.
    addEventListener("beforeprint", () => {
      charts.forEach((chart) => show(chart, { width: PAPER, dark: false }));
    });
    addEventListener("afterprint", again);
    return { charts, again };
  }

  return { start, show, file, seeds, hasSeeds };
})();
