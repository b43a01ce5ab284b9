"use strict";

/** What the pages have in common: elements, colours, numbers, charts. */
const page = (() => {
  const byId = (id) => document.getElementById(id);
  const tree = document.documentElement;

  /** Names of charts: those that the page has, and those that have been drawn. For tests and for whoever automates a browser. */
  const progress = { expected: [], drawn: [] };
  window.attarReport = progress;

  /** An element; children are elements or text, so that nothing from a file is ever taken for markup. */
  function element(tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value !== null && value !== undefined && value !== false) {
        node.setAttribute(name, value === true ? "" : value);
      }
    }
    node.append(...children.filter((child) => child !== null));
    return node;
  }

  const seriesVariable = (model) => (model === 0 ? "--base" : `--series-${(model - 1) % 10}`);
  const color = (variable) => getComputedStyle(tree).getPropertyValue(variable).trim();
  const seriesColor = (model) => color(seriesVariable(model));
  const dot = (model) => element("span", { class: "dot", style: `background: var(${seriesVariable(model)})`, "aria-hidden": "true" });
  const definitions = (list, rows) =>
    list.append(...rows.flatMap(([term, text]) => [element("dt", null, term), element("dd", null, text)]));

  function remove(...ids) {
    ids.forEach((id) => byId(id).remove());
  }

  // ---------------------------------------------------------------- Copying

  async function copy(button, text) {
    let done = false;
    try {
      await navigator.clipboard.writeText(text);
      done = true;
    } catch {
      // Not every browser lends its clipboard to a page that was opened from a file.
      const area = element("textarea", { readonly: true, class: "hidden" });
      area.value = text;
      document.body.append(area);
      area.select();
      done = document.execCommand("copy");
      area.remove();
      button.focus();
    }
    const label = button.dataset.label || button.textContent;
    button.dataset.label = label;
    button.textContent = done ? "Copied" : "Not copied";
    byId("status").textContent = done ? "Copied to the clipboard" : "The browser does not allow copying";
    clearTimeout(Number(button.dataset.timer));
    button.dataset.timer = setTimeout(() => (button.textContent = label), 2000);
  }

  // ---------------------------------------------------------------- Numbers

  const superscript = (n) => String(n).replace(/[-0-9]/g, (c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c] || "⁻");
  const significant = (x, digits = 3) => (x === 0 ? "0" : Math.abs(x) < 1e-4 ? x.toExponential(digits - 1) : trimmed(x, digits));

  function trimmed(x, digits) {
    const rounded = Math.abs(Number(x.toPrecision(digits)));
    const decimals = Math.max(0, digits - 1 - Math.floor(Math.log10(rounded) + 1e-9));
    return x.toFixed(Math.min(decimals, 9));
  }

  function percent(x) {
    return `${x >= 0.9995 ? (100 * x).toFixed(0) : significant(100 * x, 2)} %`;
  }

  /** Marks of a logarithmic axis between two decimal logarithms: as many of 1, 2, 5 as there is room for. */
  function logTicks(low, high) {
    const steps = high - low > 2.2 ? [1] : high - low > 1.2 ? [1, 3] : [1, 2, 5];
    const ticks = [];
    for (let power = Math.floor(low); power <= high; power++) {
      for (const step of steps) {
        const tick = power + Math.log10(step);
        if (tick >= low - 1e-9 && tick <= high + 1e-9) {
          ticks.push(tick);
        }
      }
    }
    return ticks;
  }

  function logLabel(tick) {
    const power = Math.floor(tick + 1e-9);
    if (power >= -3 && power < 4) {
      return String(Number((10 ** tick).toPrecision(1)));
    }
    const factor = Math.round(10 ** (tick - power));
    return `${factor === 1 ? "" : `${factor}·`}10${superscript(power)}`;
  }

  // ---------------------------------------------------------------- Charts

  const charts = [];
  const font = () => getComputedStyle(document.body).fontFamily;

  /** A chart that is drawn anew, from its options, when the theme changes; `after` may add what depends on places on the screen. */
  function chart(id, label, options, after) {
    const node = byId(id);
    node.setAttribute("role", "img");
    node.setAttribute("aria-label", label);
    progress.expected.push(id);
    const instance = echarts.init(node, null, { renderer: "svg" });
    const entry = { instance, draw };
    function draw() {
      instance.setOption({ animation: false, textStyle: { fontFamily: font(), color: color("--text") }, ...options() }, true);
      if (after) {
        after(instance);
      }
    }
    instance.on("finished", () => {
      if (!progress.drawn.includes(id)) {
        progress.drawn.push(id);
        tree.dataset.charts = String(progress.drawn.length);
      }
    });
    charts.push(entry);
    draw();
    let width = node.clientWidth;
    new ResizeObserver(() => {
      if (node.clientWidth !== width && node.clientWidth > 0) {
        width = node.clientWidth;
        instance.resize();
        draw();
      }
    }).observe(node);
    return entry;
  }

  /** The box that explains a mark: a heading and lines of text. */
  function tip(title, lines) {
    return element("div", { class: "tip" }, element("b", null, title), ...lines.map((line) => element("div", null, line)));
  }

  const tooltip = () => ({
    backgroundColor: color("--page"),
    borderColor: color("--strong-line"),
    borderWidth: 1,
    padding: [6, 10],
    textStyle: { color: color("--text"), fontFamily: font() },
    extraCssText: "box-shadow: 0 2px 8px rgb(0 0 0 / 12%); max-width: 320px; white-space: normal; overflow-wrap: anywhere;",
    transitionDuration: 0,
    confine: true
  });

  const axisText = () => ({ color: color("--muted"), fontSize: 12, fontFamily: font() });
  const grid = () => ({ show: true, lineStyle: { color: color("--line"), width: 1 } });
  const noAxis = { axisLine: { show: false }, axisTick: { show: false } };

  const measuring = document.createElement("canvas").getContext("2d");
  function textWidth(text, size) {
    measuring.font = `${size}px ${font()}`;
    return measuring.measureText(text).width;
  }

  /** A text of at most this width, with an ellipsis if it was longer. */
  function shortened(text, size, width) {
    if (textWidth(text, size) <= width) {
      return text;
    }
    let end = text.length;
    while (end > 1 && textWidth(`${text.slice(0, end)}…`, size) > width) {
      end--;
    }
    return `${text.slice(0, end)}…`;
  }

  // ---------------------------------------------------------------- Theme and paper

  /** At once, for a printer does not wait. */
  const redraw = () =>
    charts.forEach(({ instance, draw }) => {
      instance.resize();
      draw();
      instance.getZr().flush();
    });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  let closed = [];
  addEventListener("beforeprint", () => {
    tree.classList.add("print");
    closed = [...document.querySelectorAll("details:not([open])")];
    closed.forEach((details) => (details.open = true));
    redraw();
  });
  addEventListener("afterprint", () => {
    tree.classList.remove("print");
    closed.forEach((details) => (details.open = false));
    redraw();
  });

  return {
    byId,
    element,
    color,
    dot,
    seriesColor,
    definitions,
    remove,
    copy,
    significant,
    percent,
    logTicks,
    logLabel,
    font,
    chart,
    tip,
    tooltip,
    axisText,
    grid,
    noAxis,
    textWidth,
    shortened
  };
})();
