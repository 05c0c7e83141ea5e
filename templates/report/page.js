// Draws the charts of a report into its page, in the reader's colour scheme. vegaEmbed is bundled with this file.
const charts = JSON.parse(document.getElementById("charts").textContent);
const dark = window.matchMedia("(prefers-color-scheme: dark)");

function colours() {
  const style = getComputedStyle(document.documentElement);
  const named = (name) => style.getPropertyValue(name).trim();
  return {
    ink: named("--ink"),
    quiet: named("--quiet"),
    line: named("--line"),
    category: [1, 2, 3, 4, 5, 6, 7, 8].map((n) => named(`--c${n}`)),
    ramp: [named("--weak"), named("--strong")],
    onstrong: named("--onstrong"),
    onweak: named("--onweak"),
    band: named("--weak"),
  };
}

function config(colour) {
  const font = "system-ui, sans-serif";
  return {
    background: null,
    font,
    view: { stroke: null },
    range: { category: colour.category, heatmap: colour.ramp, ramp: colour.ramp },
    axis: {
      labelColor: colour.quiet,
      titleColor: colour.quiet,
      titleFontWeight: "normal",
      labelFontSize: 12,
      titleFontSize: 12,
      gridColor: colour.line,
      domain: false,
      ticks: false,
      labelPadding: 6,
    },
    legend: { labelColor: colour.ink, labelFontSize: 12, symbolSize: 90, columnPadding: 14, rowPadding: 4, offset: 10 },
    bar: { color: colour.category[0] },
    rect: { cornerRadius: 2 },
    rule: { color: colour.ink },
    text: { color: colour.ink },
  };
}

// Replaces the names of colours in a chart by the colours of the page.
function fillColours(spec, colour) {
  const names = { onstrong: colour.onstrong, onweak: colour.onweak, band: colour.band };
  const keys = ["value", "color"];
  return JSON.parse(JSON.stringify(spec), (key, value) => (keys.includes(key) && names[value]) || value);
}

async function draw() {
  const colour = colours();
  for (const [id, spec] of Object.entries(charts)) {
    // The policy of the page allows no style but its own, page.css, which styles tooltips too.
    const own = { defaultStyle: false, tooltip: { disableDefaultStyle: true } };
    const options = { actions: false, renderer: "svg", ast: true, config: config(colour), ...own };
    await vegaEmbed(document.getElementById(id), fillColours(spec, colour), options);
  }
  document.documentElement.dataset.drawn = String(Object.keys(charts).length);
}

// Opens the definition that a link leads to.
function open() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) target.open = true;
}

window.addEventListener("hashchange", open);
dark.addEventListener("change", draw);
open();
draw();
