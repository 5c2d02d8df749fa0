// Draws the figures: in the page's theme and width, when they come into view, and all of them before printing.
const figures = (() => {
  "use strict";
  const { configs, swaps, figures: given } = JSON.parse(document.getElementById("data").textContent);
  const system = matchMedia("(prefers-color-scheme: dark)");
  const PAPER = 640; // pixels: the width of the figures as files
  const PRINTED = 380; // pixels of printed ones, two a row; those of several panels have a row to themselves
  const printed = (chart) => {
    if (!chart.closest(".broad")) return PRINTED;
    return given[chart.dataset.figure].usermeta?.square ? 1.4 * PRINTED : 2 * PRINTED;
  };
  const STEP = "at_step"; // the parameter that a slider moves
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

  // Side by side, the first panel's title says what all axes upwards show; one below the other, each panel says it.
  function titleAll(panels) {
    const upwards = ({ layer, encoding }) => (layer ?? [{ encoding }]).map((one) => one.encoding?.y).filter(Boolean);
    const title = upwards(panels[0]).map((y) => y.title).find(Boolean);
    for (const y of panels.flatMap(upwards)) if (y.title === null) y.title = title;
  }

  // Panels one below the other; of several rows, those that stood below each other stay together.
  function stack(spec) {
    const rowsOf = (spec.vconcat ?? [spec]).map((row) => row.hconcat ?? [row]);
    if (rowsOf.every((row) => row.length === 1)) return;
    rowsOf.forEach(titleAll);
    delete spec.hconcat;
    spec.vconcat = rowsOf[0].flatMap((_, column) => rowsOf.map((row) => row[column]).filter(Boolean));
  }

  // Panels share the width there is; side by side they are stacked where that is narrow.
  function fit(spec, width, beside, size = 1) {
    if (width < 520 * size) stack(spec);
    letter = LETTER * size;
    for (const row of spec.vconcat ?? [spec]) {
      const panels = row.hconcat ?? [row];
      const each = Math.max(90, Math.floor((width - beside) / panels.length));
      for (const panel of panels) {
        // Where lengths are true on both axes, panels keep their shape; others keep their height.
        if (spec.usermeta?.square) panel.height = Math.round((panel.height * each) / panel.width);
        panel.width = each;
        breakLines(panel, spec);
      }
    }
    return spec;
  }

  const LETTER = 6.6; // pixels of one in the text of a figure, about
  let letter = LETTER; // the same in the figure that is fitted now

  // A text as it is, or as lines where it is longer than that many pixels.
  function inLines(text, width) {
    if (typeof text !== "string" || text.length * letter <= width) return text;
    const lines = [];
    for (const word of text.split(" ")) {
      const longer = lines.length ? `${lines.at(-1)} ${word}` : word;
      if (lines.length && longer.length * letter <= width) lines[lines.length - 1] = longer;
      else lines.push(word);
    }
    return lines.length > 1 ? lines : text;
  }

  // What is written along a panel must not be wider than the panel, or it would take the place of what is drawn.
  function breakLines(panel, spec) {
    const given = panel.title?.text ?? panel.title;
    const title = inLines(given, 0.9 * panel.width + 20); // its letters are larger than the others
    if (panel.title?.text) panel.title.text = title;
    else if (panel.title) panel.title = title;
    for (const { mark, data, encoding } of panel.layer ?? [panel]) {
      for (const [axis, long] of [["x", panel.width + 40], ["y", (panel.height ?? 300) + 30]]) {
        if (encoding?.[axis]?.title) encoding[axis].title = inLines(encoding[axis].title, long);
      }
      if (encoding?.x?.type === "ordinal" && encoding.x.sort?.length) {
        const factors = encoding.x.sort.map(String);
        const lines = factors.map((factor) => inLines(factor, panel.width / factors.length));
        if (lines.some(Array.isArray)) {
          const found = JSON.stringify(Object.fromEntries(factors.map((factor, i) => [factor, lines[i]])));
          Object.assign((encoding.x.axis ??= {}), { labelExpr: `${found}[datum.label] || datum.label`, labelLimit: 0 });
        }
      }
      if (mark?.style === "guide-note") {
        for (const row of spec.datasets?.[data?.name] ?? data?.values ?? []) {
          if (!row.room) continue;
          row.label = inLines(row.label, row.room * panel.width - 8);
          if (mark.baseline === "bottom" && Array.isArray(row.label)) mark.dy -= 15 * (row.label.length - 1);
        }
      }
    }
  }

  // Names of the series that a legend shows.
  function named(part, found = new Set()) {
    if (!part || typeof part !== "object") return found;
    if (part.scale && part.legend && Array.isArray(part.scale.domain)) {
      part.scale.domain.filter((name) => typeof name === "string").forEach((name) => found.add(name));
    }
    for (const [key, value] of Object.entries(part)) if (key !== "datasets" && key !== "data") named(value, found);
    return found;
  }

  // All in one row where there is room, else in columns as wide as the longest name.
  function columnsOf(spec, width, size = 1) {
    const wide = [...named(spec)].map((name) => (name.length * 7.2 + 46) * size);
    const room = width - 50;
    return wide.reduce((sum, one) => sum + one, 0) <= room ? wide.length : Math.floor(room / Math.max(...wide)) || 1;
  }

  // How high a figure will be, or a little more: its place is kept, so that nothing moves when it is drawn.
  function heightOf(name, width) {
    const spec = fit(specification(name, false), width, margins[`${name} ${width < 520}`] ?? 84);
    const titled = (panel) => 60 + (panel.title ? 26 + 17 * ([panel.title].flat().length - 1) : 0) + linesOf(panel);
    const rows = (spec.vconcat ?? [spec]).map((row) => (
      Math.max(...(row.hconcat ?? [row]).map((panel) => (panel.height ?? 300) + titled(panel)))
    ));
    const names = named(spec).size;
    const legend = names ? 14 + 20 * Math.ceil(names / columnsOf(spec, width)) : 0;
    return Math.ceil(rows.reduce((sum, height) => sum + height, 16) + legend + (gradient(spec) ? 48 : 0));
  }

  const linesOf = (panel) => Math.max(0, ...(panel.layer ?? [panel]).map(({ encoding }) => {
    const title = encoding?.x?.title;
    const factors = Object.values(JSON.parse(/^\{.*?\}(?=\[)/.exec(encoding?.x?.axis?.labelExpr ?? "")?.[0] ?? "{}"));
    const longest = Math.max(1, ...factors.map((lines) => [lines].flat().length));
    return 15 * ((Array.isArray(title) ? title.length : 1) - 1 + longest - 1);
  }));

  function gradient(part) {
    if (!part || typeof part !== "object") return false;
    if (part.type === "gradient") return true;
    return Object.entries(part).some(([key, value]) => key !== "datasets" && key !== "data" && gradient(value));
  }

  const reserve = (chart) => {
    if (chart.clientWidth) chart.style.minHeight = `${heightOf(chart.dataset.figure, chart.clientWidth)}px`;
  };

  // A number as axes and tables write it: 1.2e−5, and no plus in an exponent.
  const signed = (text) => text.replace(/^([−\d.,]+e)\+?([-−]?)(\d+)$/, (_, number, sign, power) => number + (sign && "−") + power);

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
        line.append(term, ` ${signed(String(content))}`);
        return line;
      }),
    );
    (document.querySelector("dialog[open]") ?? document.body).append(tip);
    const [room, high] = [document.documentElement.clientWidth, document.documentElement.clientHeight];
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 12, room - tip.offsetWidth - 4))}px`;
    tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, high - tip.offsetHeight - 4))}px`;
  }

  // Letters, marks and lines so much larger.
  function larger(part, size) {
    if (!part || typeof part !== "object") return part;
    return Object.fromEntries(Object.entries(part).map(([key, value]) => {
      if (typeof value === "number" && /fontsize$/i.test(key)) return [key, value * size];
      return [key, Array.isArray(value) ? value : larger(value, size)];
    }));
  }

  // Two legends side by side would leave no panel; the longest names need the smaller letters.
  const narrow = { layout: { top: { anchor: "start", direction: "vertical" } }, labelFontSize: 12, symbolSize: 150 };
  function embed(target, spec, dark, width, size = 1) {
    const config = larger(configs[dark ? "dark" : "light"], size);
    const columns = columnsOf(spec, width, size) || 1;
    return vegaEmbed(target, spec, {
      renderer: "svg",
      ast: true, // interprets expressions, so that the page's policy need not allow code from text
      defaultStyle: false,
      actions: false,
      tooltip,
      config: {
        ...config,
        legend: { ...config.legend, columns, labelLimit: width - 70, ...(width < 520 && narrow) },
      },
    });
  }

  // The figure's own text says what it shows; the names that Vega gives to each of a thousand marks stay out of the way.
  function inner(chart) {
    const place = document.createElement("div");
    place.setAttribute("aria-hidden", "true");
    chart.replaceChildren(place);
    return place;
  }

  async function draw(chart, { width = chart.clientWidth, dark = isDark(), height, size = 1, paper = false } = {}) {
    const look = `${width} ${dark} ${height ?? ""} ${size} ${paper}`;
    if (!width || chart.dataset.look === look) return;
    chart.dataset.look = look;
    const name = chart.dataset.figure;
    const key = `${name} ${width < 520}${size === 1 ? "" : ` ${size}`}`;
    for (let attempt = 0; attempt < 3; attempt += 1) {
      const beside = margins[key] ?? 84 * size;
      const spec = fit(specification(name, dark), width, beside, size);
      const square = spec.usermeta?.square;
      if (height && !square) {
        const rows = spec.vconcat?.length ?? 1;
        for (const panel of panelsOf(spec)) panel.height = Math.max(panel.height ?? 0, Math.floor(height / rows));
      }
      if (paper && !square) {
        const share = (spec.vconcat?.length ?? 1) > 1 ? 0.37 : 0.48; // paper is dear: two figures a row, three rows a page
        for (const panel of panelsOf(spec)) panel.height = Math.round((panel.height ?? 300) * share);
      }
      const seeds = spec.params?.find((param) => param.name === "seeds");
      if (seeds) seeds.value = chart.dataset.seeds === "true";
      const step = spec.params?.find((param) => param.name === STEP);
      if (step) step.value = paper ? -1 : Number(chart.dataset.step ?? -1);
      chart.view?.finalize();
      const place = inner(chart);
      const { view } = await embed(place, spec, dark, width, size);
      if (chart.dataset.look !== look) return view.finalize(); // meanwhile another drawing has begun
      chart.view = view;
      const taken = Number(place.querySelector("svg.marks").getAttribute("width"));
      if (taken <= width && taken > width - 24) break;
      margins[key] = beside + taken - width;
    }
    const zooms = zoomsOf(chart.view);
    if (zooms.length) {
      chart.tabIndex = 0;
      chart.setAttribute("aria-keyshortcuts", "+ - 0 ArrowLeft ArrowRight ArrowUp ArrowDown");
      chart.setAttribute("aria-describedby", "keys");
      const button = resetOf(chart);
      if (button) button.hidden = true;
      for (const { signal } of zooms) {
        chart.view.addSignalListener(signal, (_, ends) => {
          chart.dataset.zoomed = String(Boolean(ends));
          if (button) button.hidden = !ends;
        });
      }
    }
    settle();
  }

  const resetOf = (chart) => (
    chart.closest("dialog") ? null : document.querySelector(`[data-for="${CSS.escape(chart.dataset.figure)}"] [data-act=reset]`)
  );

  async function reset(chart) {
    for (const { signal } of zoomsOf(chart.view)) chart.view.signal(signal, null);
    await chart.view.runAsync();
    chart.focus();
  }

  // As large as a frame allows, with larger letters; where lengths are true on both axes, the narrower side decides.
  async function enlarge(chart, width, height) {
    const size = Math.min(1.5, Math.max(1, width / 800));
    const room = height - 110 * size;
    chart.style.marginInline = "auto";
    for (let wide = width, attempt = 0; attempt < 4; attempt += 1) {
      chart.style.maxWidth = `${wide}px`;
      await show(chart, { width: wide, height: Math.max(180, room), size });
      const tall = chart.querySelector("svg.marks")?.getBoundingClientRect().height ?? 0;
      if (tall <= height || wide <= 280 || !given[chart.dataset.figure].usermeta?.square) break;
      wide = Math.max(280, Math.floor((wide * (height - 4)) / tall));
    }
  }

  // Where a link has led: kept in its place while figures above it are drawn, until the reader moves.
  let aim = null;
  const settle = () => {
    if (aim) aim.scrollIntoView({ behavior: "instant", block: "start" });
  };
  function follow() {
    aim = location.hash.length > 1 ? document.getElementById(decodeURIComponent(location.hash.slice(1))) : null;
    settle();
  }

  // What a mouse zooms, by its names in Vega: for each panel and axis the signal that holds the part shown, and its scale.
  function zoomsOf(view) {
    const { signals } = view.getState({ signals: (name) => /^zoom\w*_[xy]$/.test(name), data: () => false });
    const panels = [...new Set(Object.keys(signals).map((name) => name.slice(0, -2)))];
    const scales = Object.keys(view._runtime.scales);
    return Object.keys(signals).map((signal) => {
      const axis = signal.at(-1);
      const all = scales.filter((name) => name === axis || name.endsWith(`_${axis}`)); // in the order of the panels
      return { signal, axis, scale: all[panels.indexOf(signal.slice(0, -2))] };
    }).filter(({ scale }) => scale);
  }

  const KEYS = {
    "+": [2 / 3, 0, 0], "=": [2 / 3, 0, 0], "-": [3 / 2, 0, 0], "0": null,
    ArrowLeft: [1, -0.15, 0], ArrowRight: [1, 0.15, 0], ArrowDown: [1, 0, -0.15], ArrowUp: [1, 0, 0.15],
  };

  // Ends of an axis zoomed about its middle and moved by a share of its length, evenly on the screen.
  function moved(scale, factor, share) {
    const [to, from] = scale.type === "log" ? [Math.log, Math.exp] : [Number, Number];
    const ends = scale.domain();
    const [low, high] = [to(ends[0]), to(ends.at(-1))];
    const [middle, half] = [(low + high) / 2 + share * (high - low), ((high - low) / 2) * factor];
    return [from(middle - half), from(middle + half)];
  }

  const said = document.createElement("output");
  said.className = "said";
  said.setAttribute("aria-live", "polite");
  document.body.append(said);

  function titleOf(part, axis) {
    if (!part || typeof part !== "object") return undefined;
    return part.encoding?.[axis]?.title ?? Object.values(part).map((inner) => titleOf(inner, axis)).find(Boolean);
  }

  async function press(event) {
    const chart = event.target.closest?.(".chart[tabindex]");
    if (!chart?.view || !(event.key in KEYS) || event.ctrlKey || event.metaKey || event.altKey) return;
    const zoomed = chart.dataset.zoomed === "true";
    if (event.key.startsWith("Arrow") && !zoomed) return; // the page scrolls
    event.preventDefault();
    const zooms = zoomsOf(chart.view);
    const act = KEYS[event.key];
    for (const { signal, axis, scale } of zooms) {
      chart.view.signal(signal, act && moved(chart.view.scale(scale), act[0], act[axis === "x" ? 1 : 2]));
    }
    chart.dataset.zoomed = String(act !== null);
    await chart.view.runAsync();
    const number = (value) => String(Number(value.toPrecision(3)));
    const ends = zooms.slice(0, 2).map(({ axis, scale }) => {
      const shown = chart.view.scale(scale).domain();
      return `${titleOf(given[chart.dataset.figure], axis) ?? axis} from ${number(shown[0])} to ${number(shown.at(-1))}`;
    });
    said.textContent = `${act ? "Shown" : "Whole figure"}: ${ends.join("; ")}.`;
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

  const slider = (name) => given[name].usermeta?.slider;

  function walk(chart, step) {
    chart.dataset.step = String(step);
    chart.view?.signal(STEP, step).runAsync();
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
    charts.forEach(reserve);
    const seen = new IntersectionObserver((entries) => {
      for (const { isIntersecting, target } of entries) if (isIntersecting) show(target);
    }, { rootMargin: "600px" });
    if (charts.length) show(charts[0]).then(() => charts.forEach((chart) => seen.observe(chart)));
    follow();
    addEventListener("hashchange", follow);
    for (const moved of ["wheel", "touchmove", "pointerdown", "keydown"]) {
      addEventListener(moved, () => { aim = null; }, { passive: true, capture: true });
    }
    document.addEventListener("keydown", press);
    system.addEventListener("change", again);
    let timer;
    addEventListener("resize", () => {
      clearTimeout(timer);
      timer = setTimeout(() => { charts.forEach(reserve); again(); }, 150);
    });
    // Drawing takes no task of its own, only promises, so that all figures are there when the browser lays out the pages.
    addEventListener("beforeprint", () => {
      charts.forEach((chart) => show(chart, { width: printed(chart), dark: false, paper: true }));
    });
    addEventListener("afterprint", again);
    return { charts, again };
  }

  return { start, show, enlarge, reset, file, seeds, hasSeeds, slider, walk };
})();
