(() => {
  "use strict";
  const { configs, swaps, figures } = JSON.parse(document.getElementById("data").textContent);
  const charts = [...document.querySelectorAll(".chart")];
  const system = matchMedia("(prefers-color-scheme: dark)");
  const button = document.getElementById("theme");
  const themes = ["automatic", "light", "dark"];
  let theme = "automatic";

  const dark = () => theme === "dark" || (theme === "automatic" && system.matches);

  // The chart in the page's theme, its panels sharing the width there is, or stacked where that is narrow.
  // `beside` is what axes and labels take: guessed first, then measured on the drawn chart.
  function fitted(name, width, beside) {
    let text = JSON.stringify(figures[name]);
    if (dark()) for (const [light, other] of Object.entries(swaps)) text = text.replaceAll(light, other);
    const spec = JSON.parse(text);
    const stacked = spec.hconcat && width < 560;
    if (stacked) {
      spec.vconcat = spec.hconcat;
      delete spec.hconcat;
    }
    const panels = spec.hconcat ?? spec.vconcat ?? [spec];
    const each = Math.max(120, Math.floor((width - beside) / (spec.hconcat ? panels.length : 1)));
    for (const panel of panels) panel.width = each;
    return spec;
  }

  function themed(width) {
    const config = configs[dark() ? "dark" : "light"];
    const columns = Math.max(1, Math.floor(width / 130));
    return { ...config, legend: { ...config.legend, columns } };
  }

  async function draw(chart) {
    const width = chart.clientWidth;
    const look = `${width} ${dark()}`;
    if (!width || chart.dataset.look === look) return;
    chart.dataset.look = look;
    const options = {
      renderer: "svg",
      config: themed(width),
      actions: { export: { svg: true, png: true }, source: false, compiled: false, editor: false },
      downloadFileName: chart.dataset.figure,
    };
    const name = chart.dataset.figure;
    let beside = 80;
    for (let attempt = 0; attempt < 2; attempt += 1) {
      chart.view?.finalize();
      const result = await vegaEmbed(chart, fitted(name, width, beside), options);
      chart.view = result.view;
      const taken = chart.querySelector("svg.marks")?.getBoundingClientRect().width ?? width;
      if (taken <= width && taken > width - 24) break;
      beside += taken - width;
    }
    chart.style.minHeight = "0";
  }

  const failed = (chart) => (error) => {
    chart.textContent = `This figure could not be drawn: ${error.message}`;
  };
  const show = (chart) => draw(chart).catch(failed(chart));
  const drawn = () => charts.filter((chart) => chart.dataset.look);

  function apply(next) {
    theme = themes.includes(next) ? next : "automatic";
    if (theme === "automatic") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
    drawn().forEach(show);
  }

  // A page opened from a file may have no storage; the switch then lasts as long as the page.
  const remembered = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const remember = () => { try { localStorage.setItem("theme", theme); } catch { /* see above */ } };

  button.hidden = false;
  button.addEventListener("click", () => {
    apply(themes[(themes.indexOf(theme) + 1) % themes.length]);
    remember();
  });
  system.addEventListener("change", () => drawn().forEach(show));
  apply(location.hash === "#dark" || location.hash === "#light" ? location.hash.slice(1) : remembered());

  // Figures are drawn when they come into view, the others one after another while nothing else happens.
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) show(entry.target);
  }, { rootMargin: "400px" });
  charts.forEach((chart) => seen.observe(chart));
  const idle = window.requestIdleCallback ?? ((work) => setTimeout(work, 200));
  const rest = () => {
    const next = charts.find((chart) => !chart.dataset.look);
    if (next) show(next).finally(() => idle(rest));
  };
  addEventListener("load", () => idle(rest));

  let timer;
  addEventListener("resize", () => {
    clearTimeout(timer);
    timer = setTimeout(() => drawn().forEach(show), 150);
  });
})();
