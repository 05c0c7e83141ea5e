// The live page: server-sent events into numbers. All text is set as text; nothing is loaded but what is served here.
"use strict";
(() => {
  const SILENT_MS = 40000, FIRST_MS = 8000, SPOKEN_MS = 30000, POLL_MS = 5000, MINUTES = 60;
  const keys = new Map(), questions = new Map(), charts = new Map(), changedKeys = new Set();
  const whole = new Intl.NumberFormat("en"), money = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
  const few = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
  const share = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 1 });
  const token = decodeURIComponent(location.hash.slice(1));
  const id = (name) => document.getElementById(name);
  let last = "", page = {}, offset = 0, heard = 0, paused = false, spoken = 0, waiting = false;

  // Elements

  function make(tag, text, className) {
    const made = document.createElement(tag);
    if (text !== undefined && text !== null) made.textContent = text;
    if (className) made.className = className;
    return made;
  }

  /** A number of the page: its key, its value as the server sent it, and what a person reads. */
  function figure(key, how) {
    const value = keys.get(key), made = make("data", value === undefined ? "–" : (how || whole.format)(value));
    made.dataset.key = key;
    if (value !== undefined) made.value = value;
    if (changedKeys.has(key)) made.className = "changed";
    return made;
  }

  function rate(key, of) {
    const part = keys.get(key), all = keys.get(of);
    const made = make("data", all ? share.format((part || 0) / all) : "–");
    made.dataset.rate = `${key}/${of}`;
    return made;
  }

  function named(key, absent) {
    const value = keys.get(key), made = make("span", value === undefined ? absent : value, value === undefined ? "none" : "");
    made.dataset.key = key;
    return made;
  }

  function pairs(list) {
    const made = make("dl", null, "more");
    for (const [name, value] of list) { made.append(make("dt", name), wrap("dd", value)); }
    return made;
  }

  function wrap(tag, child, className) {
    const made = make(tag, null, className);
    made.append(child);
    return made;
  }

  function table(head, rows) {
    const made = make("table"), top = make("tr");
    head.forEach((text, n) => {
      const cell = make("th", text, rows[0]?.[n].classList.contains("text") ? "text" : "");
      cell.scope = "col";
      top.append(cell);
    });
    made.append(wrap("thead", top));
    const body = make("tbody");
    rows.forEach((cells) => { const row = make("tr"); row.append(...cells); body.append(row); });
    made.append(body);
    return made;
  }

  function bar(part) {
    const made = make("span", null, "bar"), inner = make("i");
    inner.style.width = `${Math.max(0, Math.min(1, part || 0)) * 100}%`;
    made.setAttribute("aria-hidden", "true");
    made.append(inner);
    return made;
  }

  const rows = (name) => [...Array(keys.get(`${name}.rows`) || 0).keys()];
  const empty = (text) => make("p", text, "empty");

  function nameCell(key, absent, part) {
    const cell = make("td", null, "name");
    cell.append(named(key, absent), bar(part));
    return cell;
  }

  function paceCell(key) {
    const value = keys.get(key), cell = make("td", null, "pace");
    if (value === undefined) { cell.append(make("span", "–", "none")); return cell; }
    const word = value >= 1.2 ? "▲ " : value <= 0.8 ? "▼ " : "";
    const made = figure(key, (pace) => `${word}×${pace.toFixed(1)}`);
    if (value >= 1.2) made.classList.add("up");
    cell.append(made);
    return cell;
  }

  // Cards, each drawn from the keys of its question

  const draw = {
    now: () => [bigNumber("now.people", "people in 5 minutes"), pairs([["contents", figure("now.contents")], ["newest event", age("now.newest")]])],
    engagement: () => [bigNumber("engagement.sessions", "sessions"), pairs([
      ["visitors", figure("engagement.visitors")],
      ["engaged", both("engagement.engaged", "engagement.sessions")],
      ["bounced", both("engagement.bounces", "engagement.sessions")],
      ["converted", both("engagement.converted", "engagement.sessions")]])],
    revenue: () => {
      if (!rows("revenue").length) return [empty("No purchase or refund yet.")];
      const line = make("p", null, "figure");
      line.append(figure("revenue.0.revenue", money.format), wrap("small", named("revenue.0.currency")));
      return [line, table(["currency", "revenue", "orders", "refunds"], rows("revenue").map((n) => [
        wrap("td", named(`revenue.${n}.currency`), "text"), wrap("td", figure(`revenue.${n}.revenue`, money.format)),
        wrap("td", figure(`revenue.${n}.orders`)), wrap("td", figure(`revenue.${n}.refunds`, money.format))]))];
    },
    books: () => {
      const balance = keys.get("books.balance");
      const line = bigNumber("books.balance", balance === undefined ? "no record yet" : balance ? "records in no place" : "the counts reconcile");
      if (balance !== undefined) line.classList.add(balance ? "bad" : "good");
      return [line, pairs([["received", figure("books.received")], ["accepted", figure("books.events")],
        ["duplicates", figure("books.duplicates")], ["quarantined", figure("books.quarantined")],
        ["taken out", figure("books.others")],
        ["minutes still open", figure("books.open_minutes")], ["under way", figure("books.under_way")]])];
    },
    contents: () => ranked("contents", ["content", "this hour", "hour before", "pace"], "content_id", "views", (n) => [
      wrap("td", figure(`contents.${n}.views`)), wrap("td", figure(`contents.${n}.views_before`)), paceCell(`contents.${n}.pace`)]),
    campaigns: () => ranked("campaigns", ["campaign", "sessions", "converted", "pace"], "campaign", "sessions", (n) => [
      wrap("td", figure(`campaigns.${n}.sessions`)), wrap("td", both(`campaigns.${n}.converted`, `campaigns.${n}.sessions`)), paceCell(`campaigns.${n}.pace`)]),
    countries: () => sessionsBy("countries", "country"),
    channels: () => sessionsBy("channels", "channel"),
    funnel: () => {
      if (!rows("funnel").length) return [empty("Nobody took the first step yet.")];
      return [table(["step", "people", "of the first"], rows("funnel").map((n) => [
        nameCell(`funnel.${n}.event_type`, "", keys.get(`funnel.${n}.people`) / keys.get(`funnel.${n}.first`)),
        wrap("td", figure(`funnel.${n}.people`)), wrap("td", rate(`funnel.${n}.people`, `funnel.${n}.first`))]))];
    },
    quarantine: () => {
      if (!rows("quarantine").length) return [empty("No record was refused.")];
      const sums = make("p", null, "readout");
      sums.append(figure("quarantine.0.all_records"), " records in quarantine, ", figure("quarantine.0.late"), " of them too late");
      return [sums, table(["reason", "field", "records", "newest"], rows("quarantine").map((n) => {
        const reason = make("td", null, "text wide");
        reason.append(named(`quarantine.${n}.code`, "no code"), make("span", ` (${keys.get(`quarantine.${n}.stage`) || "?"})`, "none"));
        return [reason, wrap("td", named(`quarantine.${n}.path`, "whole record"), "text"),
          wrap("td", figure(`quarantine.${n}.records`)), wrap("td", age(`quarantine.${n}.newest`))];
      }))];
    },
    feedback: () => {
      if (!rows("feedback").length) return [empty("No rating or text yet.")];
      return [table(["type and channel", "answers", "mean rating", "newest"], rows("feedback").map((n) => {
        const kind = make("td", null, "text");
        kind.append(named(`feedback.${n}.event_type`, ""), " ", named(`feedback.${n}.channel`, "(no channel)"));
        kind.lastChild.classList.add("none");
        return [kind, wrap("td", figure(`feedback.${n}.answers`)),
          wrap("td", figure(`feedback.${n}.mean`, (mean) => mean.toFixed(2))), wrap("td", age(`feedback.${n}.newest`))];
      }))];
    },
  };

  // Cards of the answers of a refresh: shown once there is one

  Object.assign(draw, {
    trends: () => found("trends", "trend", "Nothing rises or falls.", ["what", "events", "expected", "growth"], (n) => {
      const what = make("td", null, "text"), trend = named(`trends.${n}.trend`, ""), up = keys.get(`trends.${n}.trend`) === "rising";
      trend.className = up ? "up" : "down";
      what.append(make("span", up ? "▲ " : "▼ ", up ? "up" : "down"), trend, " ");
      what.append(named(`trends.${n}.dimension`, ""), " ", named(`trends.${n}.key`, ""), when("from ", `trends.${n}.begun`));
      return [what, wrap("td", figure(`trends.${n}.events`)),
        wrap("td", figure(`trends.${n}.expected`, few.format)), wrap("td", figure(`trends.${n}.growth`, (growth) => `×${growth.toFixed(1)}`))];
    }),
    anomalies: () => found("anomalies", "metric", "Every series is as it was to be expected.", ["what", "value", "expected", "95 %"], (n) => {
      const what = make("td", null, "text"), range = make("td");
      what.append(named(`anomalies.${n}.kind`, ""), " ", named(`anomalies.${n}.direction`, ""), " in ", named(`anomalies.${n}.metric`, ""), ", ");
      what.append(named(`anomalies.${n}.channel`, "all channels"), when("since ", `anomalies.${n}.begun`));
      between(range, `anomalies.${n}.lower`, `anomalies.${n}.upper`, few.format);
      return [what, wrap("td", figure(`anomalies.${n}.value`, few.format)),
        wrap("td", figure(`anomalies.${n}.expected`, few.format)), range];
    }),
    sentiment: () => {
      if (!keys.has("sentiment.0.begun")) return [empty("No rating or text in 7 days.")];
      const sums = make("p", null, "readout"), all = "sentiment.0.all_";
      sums.append(figure(`${all}texts`), " texts, ", figure(`${all}scored`), " scored: ", figure(`${all}positive`), " positive (",
        rate(`${all}positive`, `${all}scored`), "), ", figure(`${all}negative`), " negative (", rate(`${all}negative`, `${all}scored`), ")");
      return [sums, ...found("sentiment", "begun", "", ["hour and content", "channel", "texts", "+", "−", "ratings"], (n) => {
        const what = make("td", null, "text");
        what.append(moment(`sentiment.${n}.begun`), " ", named(`sentiment.${n}.content_id`, "(no content)"));
        return [what, wrap("td", named(`sentiment.${n}.channel`, "(none)"), "text"),
          ...["texts", "positive", "negative", "ratings"].map((name) => wrap("td", figure(`sentiment.${n}.${name}`)))];
      })];
    },
    scores: () => found("scores", "score", "No rating in 28 days.", ["score", "days", "value", "95 %", "ratings"], (n) => {
      const kind = keys.get(`scores.${n}.score`), how = kind === "csat" ? share.format : few.format, range = make("td");
      between(range, `scores.${n}.low`, `scores.${n}.high`, how);
      return [wrap("td", named(`scores.${n}.score`, ""), "text"), wrap("td", figure(`scores.${n}.span_days`)),
        wrap("td", figure(`scores.${n}.value`, how)), range, wrap("td", figure(`scores.${n}.n`))];
    }),
    alerts: () => found("alerts", "rule", "No alert is open.", ["alert", "since"], (n) => {
      const what = make("td", null, "text");
      what.append(named(`alerts.${n}.rule`, ""));
      if (keys.get(`alerts.${n}.is_muted`)) what.append(make("span", " muted", "none"));
      what.append(wrap("span", named(`alerts.${n}.text`, ""), "when"));
      return [what, wrap("td", moment(`alerts.${n}.since`))];
    }),
  });

  function when(word, key) {
    const made = make("span", word, "when");
    made.append(moment(key));
    return made;
  }

  function between(cell, low, high, how) {
    cell.append(...(keys.has(low) || keys.has(high) ? [figure(low, how), " to ", figure(high, how)] : [make("span", "–", "none")]));
  }

  function found(name, column, nothing, head, cells) {
    return keys.has(`${name}.0.${column}`) ? [table(head, rows(name).map(cells))] : [empty(nothing)];
  }

  function bigNumber(key, unit) {
    const line = make("p", null, "figure");
    line.append(figure(key), make("small", unit));
    return line;
  }

  function both(key, of) {
    const made = make("span");
    made.append(figure(key), " · ", rate(key, of));
    return made;
  }

  function ranked(name, head, label, measure, cells) {
    const places = rows(name), most = Math.max(1, ...places.map((n) => keys.get(`${name}.${n}.${measure}`) || 0));
    if (!places.length) return [empty("Nothing yet.")];
    return [table(head, places.map((n) => [
      nameCell(`${name}.${n}.${label}`, "(none)", (keys.get(`${name}.${n}.${measure}`) || 0) / most), ...cells(n)]))];
  }

  function sessionsBy(name, label) {
    return ranked(name, [label, "sessions", "converted"], label, "sessions", (n) => [
      wrap("td", figure(`${name}.${n}.sessions`)), wrap("td", rate(`${name}.${n}.converted`, `${name}.${n}.sessions`))]);
  }

  // Time: by the clock of the server, so that a wrong clock of this machine changes no age

  const now = () => Date.now() / 1000 + offset;

  function ageText(seconds) {
    const past = Math.max(0, Math.round(seconds));
    if (past < 90) return `${past} s ago`;
    if (past < 5400) return `${Math.round(past / 60)} min ago`;
    return past < 172800 ? `${Math.round(past / 3600)} h ago` : `${Math.round(past / 86400)} days ago`;
  }

  function age(key) {
    const made = make("time", keys.has(key) ? ageText(now() - keys.get(key)) : "–");
    made.dataset.age = key;
    if (keys.has(key)) made.dateTime = new Date(keys.get(key) * 1000).toISOString();
    return made;
  }

  function clock(seconds) {
    const zone = keys.get("state.time_zone") || "UTC";
    return new Date(seconds * 1000).toLocaleTimeString("en-GB", { timeZone: zone });
  }

  function dayAndClock(seconds) {
    const zone = keys.get("state.time_zone") || "UTC", day = { timeZone: zone, day: "numeric", month: "short" };
    return `${new Date(seconds * 1000).toLocaleDateString("en-GB", day)} ${clock(seconds).slice(0, 5)}`;
  }

  /** A time of the page, in the warehouse's time zone. */
  function moment(key) {
    const value = keys.get(key), made = make("time", value === undefined ? "–" : dayAndClock(value));
    made.dataset.key = key;
    if (value !== undefined) { made.value = value; made.dateTime = new Date(value * 1000).toISOString(); }
    return made;
  }

  function ages() {
    document.querySelectorAll("[data-age]").forEach((each) => {
      const at = keys.get(each.dataset.age);
      if (at !== undefined) each.textContent = ageText(now() - at);
    });
  }

  // Charts

  function series(name, column) {
    const begin = Date.parse(`${(keys.get("at.hour") || "").replace(" ", "T")}Z`) / 1000;
    const times = [...Array(MINUTES).keys()].map((n) => begin + 60 * n);
    const values = times.map((time) => keys.get(`${name}.${time}.${column}`) ?? 0);
    return { times, values, open: times.map((time) => keys.get(`${name}.${time}.is_open`) === 1) };
  }

  function plot(name, column, box) {
    const { times, values, open } = series(name, column);
    if (!Number.isFinite(times[0]) || !window.uPlot) return;
    const closed = values.map((value, n) => (open[n] ? null : value)), still = values.map((value, n) => (open[n] ? value : null));
    const chart = charts.get(name);
    if (chart && chart.root.isConnected) { chart.setData([times, closed, still]); return; }
    const style = getComputedStyle(document.documentElement), color = (key) => style.getPropertyValue(key).trim();
    const bars = window.uPlot.paths.bars({ size: [0.8, 60] });
    const axis = { stroke: color("--quiet"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const readout = box.parentElement.querySelector(".readout");
    const options = {
      width: box.clientWidth, height: box.clientHeight, padding: [8, 6, 0, 0], legend: { show: false },
      tzDate: (time) => window.uPlot.tzDate(new Date(time * 1000), keys.get("state.time_zone") || "UTC"),
      cursor: { y: false, points: { show: false }, drag: { x: false } },
      scales: { y: { range: (_, least, most) => [0, Math.max(4, most * 1.1)] } },
      axes: [{ ...axis, size: 28, grid: { show: false }, values: (_, ticks) => ticks.map((tick) => clock(tick).slice(0, 5)) }, { ...axis, size: 46 }],
      series: [{}, { fill: color("--c1"), stroke: color("--c1"), width: 0, paths: bars, points: { show: false } },
        { fill: color("--open"), stroke: color("--open"), width: 0, paths: bars, points: { show: false } }],
      hooks: { setCursor: [(drawn) => { readAt(readout, name, column, drawn.cursor.idx); }] },
    };
    box.replaceChildren();
    charts.set(name, new window.uPlot(options, [times, closed, still], box));
  }

  function readAt(readout, name, column, place) {
    const { times, values, open } = series(name, column);
    const at = place === null || place === undefined ? values.length - 1 : place;
    readout.replaceChildren(make("span", `${clock(times[at]).slice(0, 5)}: `));
    const shown = make("data", whole.format(values[at]));
    readout.append(shown, make("span", ` ${column}${open[at] ? ", still open" : ""}`));
    if (name === "minutes") readout.append(make("span", null, "key"), "closed", make("span", null, "key open"), "still open");
  }

  function drawChart(name, column, body) {
    if (!body.querySelector(".plot")) {
      const box = make("div", null, "plot"), more = make("details");
      box.setAttribute("role", "img");
      more.append(make("summary", "Numbers of the chart"), make("div", null, "scroll"));
      more.addEventListener("toggle", () => drawTable(name, column, more));
      body.replaceChildren(box, make("p", null, "readout"), more);
      new ResizeObserver(() => {
        const chart = charts.get(name);
        if (chart && box.clientWidth) chart.setSize({ width: box.clientWidth, height: box.clientHeight });
      }).observe(box);
    }
    const box = body.querySelector(".plot"), { values } = series(name, column);
    box.setAttribute("aria-label", `${column} of each of the last 60 minutes: ${whole.format(values.reduce((a, b) => a + b, 0))} in all, at most ${whole.format(Math.max(0, ...values))} a minute`);
    plot(name, column, box);
    readAt(body.querySelector(".readout"), name, column, charts.get(name)?.cursor.idx);
    drawTable(name, column, body.querySelector("details"));
  }

  // The forecast: what happened, what is expected, and the interval

  const HOURLY = ["events", "expected", "lower", "upper"];

  function hours() {
    const times = [...keys.keys()].filter((key) => /^forecast\.\d+\./.test(key)).map((key) => Number(key.split(".")[1]));
    const sorted = [...new Set(times)].sort((a, b) => a - b);
    return [sorted, ...HOURLY.map((column) => sorted.map((time) => keys.get(`forecast.${time}.${column}`) ?? null))];
  }

  function drawForecast(body) {
    if (!body.querySelector(".plot")) {
      const box = make("div", null, "plot"), more = make("details");
      box.setAttribute("role", "img");
      more.append(make("summary", "Numbers of the chart"), make("div", null, "scroll"));
      more.addEventListener("toggle", () => drawHours(more));
      body.replaceChildren(box, make("p", null, "readout"), more);
      new ResizeObserver(() => {
        const chart = charts.get("forecast");
        if (chart && box.clientWidth) chart.setSize({ width: box.clientWidth, height: box.clientHeight });
      }).observe(box);
    }
    const box = body.querySelector(".plot"), data = hours(), ahead = data[2].filter((value, n) => value !== null && data[1][n] === null);
    const sum = few.format(Math.round(ahead.reduce((a, b) => a + b, 0)));
    box.setAttribute("aria-label", `Events by the hour: those of the last 24 hours, and ${sum} expected in the next ${ahead.length} hours with the interval that holds 95 %`);
    plotForecast(box, data);
    readForecast(body.querySelector(".readout"), charts.get("forecast")?.cursor.idx);
    drawHours(body.querySelector("details"));
  }

  function plotForecast(box, data) {
    if (!data[0].length || !window.uPlot) return;
    const chart = charts.get("forecast");
    if (chart && chart.root.isConnected) { chart.setData(data); return; }
    const style = getComputedStyle(document.documentElement), color = (key) => style.getPropertyValue(key).trim();
    const axis = { stroke: color("--quiet"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const none = { width: 0, points: { show: false } };
    const options = {
      width: box.clientWidth, height: box.clientHeight, padding: [8, 6, 0, 0], legend: { show: false },
      tzDate: (time) => window.uPlot.tzDate(new Date(time * 1000), keys.get("state.time_zone") || "UTC"),
      cursor: { y: false, points: { show: false }, drag: { x: false } },
      scales: { y: { range: (_, least, most) => [Math.min(0, least), Math.max(4, most * 1.05)] } },
      axes: [{ ...axis, size: 28, grid: { show: false }, values: (_, ticks) => ticks.map((tick) => dayAndClock(tick)), space: 90 }, { ...axis, size: 46 }],
      series: [{}, { stroke: color("--c1"), width: 2, points: { show: false } }, { stroke: color("--c2"), width: 2, dash: [6, 4], points: { show: false } },
        { ...none, stroke: color("--open") }, { ...none, stroke: color("--open") }],
      bands: [{ series: [4, 3], fill: color("--band") }],
      hooks: { setCursor: [(drawn) => { readForecast(box.parentElement.querySelector(".readout"), drawn.cursor.idx); }] },
    };
    box.replaceChildren();
    charts.set("forecast", new window.uPlot(options, data, box));
  }

  function readForecast(readout, place) {
    const [times, happened, expected, lower, upper] = hours();
    if (!times.length) return;
    const ahead = expected.findIndex((value, n) => value !== null && happened[n] === null);
    const at = place === null || place === undefined ? Math.max(0, ahead) : place, text = (value) => (value === null || value === undefined ? "–" : few.format(Math.round(value)));
    readout.replaceChildren(make("span", `${dayAndClock(times[at])}: `));
    if (happened[at] !== null) readout.append(make("span", `${text(happened[at])} events, `));
    readout.append(make("span", `${text(expected[at])} expected (${text(lower[at])} to ${text(upper[at])})`));
    readout.append(make("span", null, "key"), "happened", make("span", null, "key ahead"), "expected", make("span", null, "key band"), "95 %");
  }

  function drawHours(more) {
    if (!more.open) return;
    more.lastChild.replaceChildren(table(["hour", "events", "expected", "from", "to"], hours()[0].map((time) => [
      make("td", dayAndClock(time)), ...HOURLY.map((column) => wrap("td", figure(`forecast.${time}.${column}`, few.format)))])));
  }

  function drawTable(name, column, more) {
    if (!more.open) return;
    const { times, open } = series(name, column);
    more.lastChild.replaceChildren(table(["minute", column, "state"], times.map((time, n) => [
      make("td", clock(time).slice(0, 5)), wrap("td", figure(`${name}.${time}.${column}`)),
      make("td", open[n] ? "open" : "")]).reverse()));
  }

  // A card: what it shows, how fresh it is, and what it means

  function fill(text, name) {
    const literal = page.is_local ? "TIMESTAMPTZ" : "TIMESTAMP", group = questions.get(name).at;
    return text.replace(/[@$]([a-z_]+)\b/g, (found, parameter) => {
      const value = keys.get(`${group}.${parameter}`);
      if (value === undefined) return found;
      return value.length === 10 ? `DATE '${value}'` : `${literal} '${value}+00:00'`;
    });
  }

  const sql = (name) => fill(questions.get(name).sql, name);

  function dayEnd() {
    const end = Date.parse(`${(keys.get("at.day_end") || "").replace(" ", "T")}Z`) / 1000;
    return Number.isFinite(end) ? `${clock(end).slice(0, 5)} ${keys.get("state.time_zone")}` : "midnight";
  }

  function card(section) {
    const name = section.dataset.question, question = questions.get(name), body = section.querySelector(".body");
    section.hidden = !question || ("answer" in section.dataset && !keys.has(`${name}.written`));
    if (section.hidden) return;
    if (!section.querySelector(".how")) dress(section, name, question);
    if (name === "minutes") drawChart(name, "events", body);
    else if (name === "starts") drawChart(name, "sessions", body);
    else if (name === "forecast") drawForecast(body);
    else body.replaceChildren(...draw[name]());
    const fresh = section.querySelector(".fresh");
    fresh.replaceChildren("asked ", age(`${name}.asked`));
    const written = keys.has(`${name}.written`) ? `${name}.written` : "now.written";  // of what reads events: the newest
    if (keys.has(written)) fresh.append("answer" in section.dataset ? " · as of " : " · newest row ", age(written));
    const open = [...keys].filter(([key, value]) => key.startsWith(`${name}.`) && key.endsWith(".is_open") && value === 1).length;
    if (open) fresh.append(` · ${open} minutes still open`);
    const how = section.querySelector(".how");
    how.querySelector(".final").textContent = question.final.replace("{day_end}", dayEnd());
    if (how.open) how.querySelector("pre").textContent = sql(name);
  }

  function dress(section, name, question) {
    const title = section.querySelector("h2"), how = make("details", null, "how"), copy = make("button", "Copy SQL");
    title.textContent = question.title;
    title.id = `${name}-title`;
    section.setAttribute("aria-labelledby", title.id);
    copy.type = "button";
    copy.addEventListener("click", () => copyText(sql(name), copy));
    const summary = make("summary", "Definition and SQL");
    summary.setAttribute("aria-label", `Definition and SQL: ${question.title}`);
    const where = make("p", "Definition: ");
    where.append(make("code", `docs/metrics/${question.metric}.md`), `; the SQL is ${page.is_local ? "DuckDB" : "BigQuery"}'s, for audience query`);
    how.append(summary, make("p", question.text), make("p", null, "final"), where, make("pre"), copy);
    how.addEventListener("toggle", () => { if (how.open) how.querySelector("pre").textContent = sql(name); });
    how.querySelector("pre").tabIndex = 0;
    section.append(make("p", null, "fresh"), how);
  }

  async function copyText(text, button) {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {  // a page without TLS may not write: the text is selected instead
      getSelection().selectAllChildren(button.parentElement.querySelector("pre"));
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy SQL"; }, 2000);
  }

  // The page as a whole

  function render(names) {
    waiting = false;
    if (paused) return;
    document.querySelectorAll("[data-question]").forEach((section) => {
      if (!names || names.has(section.dataset.question)) card(section);
    });
    id("warehouse").textContent = keys.get("state.warehouse") || "";
    document.title = `${whole.format(keys.get("now.people") || 0)} now · ${keys.get("state.warehouse") || ""} · Audience live`;
    const fresh = id("fresh");
    fresh.replaceChildren(` · ${keys.get("state.is_past") ? "shown as of" : "as of"} ${keys.get("state.is_past") ? keys.get("at.now") + " UTC" : clock(keys.get("state.asked"))} ${keys.get("state.is_past") ? "" : keys.get("state.time_zone")}`);
    if (keys.has("state.newest")) fresh.append(" · newest event ", age("state.newest"));
    const lines = [...keys].filter(([key]) => key.startsWith("attention.") || key === "state.problem").map(([, text]) => make("li", text));
    id("attention").replaceChildren(...lines);
    id("attention").hidden = !lines.length;
    id("cost").textContent = keys.has("state.bytes_an_hour")
      ? `An open page bills ${(keys.get("state.bytes_an_hour") / 1e9).toFixed(2)} GB an hour, about $${keys.get("state.usd_an_hour").toFixed(4)} at $6.25 a TiB; without a page open nothing is asked.`
      : `The last tick read ${whole.format(keys.get("state.read_files") || 0)} files of ${(keys.get("state.read_bytes") / 1e6 || 0).toFixed(1)} MB; without a page open nothing is asked.`;
    speak();
    changedKeys.clear();
  }

  function speak() {
    if (Date.now() - spoken < SPOKEN_MS) return;
    spoken = Date.now();
    const { values } = series("minutes", "events"), before = values[values.length - 2];
    id("spoken").textContent = `${whole.format(keys.get("now.people") || 0)} people active now, ${whole.format(before || 0)} events in the minute before.`;
  }

  function status(state, text) {
    if (paused && state === "live") return;
    id("status").dataset.state = state;
    id("status-text").textContent = text;
  }

  function take(changed, isWhole) {
    if (isWhole) { keys.clear(); }
    const names = new Set();
    for (const [key, value] of Object.entries(changed)) {
      if (value === null) keys.delete(key); else keys.set(key, value);
      if (key.endsWith(".asked")) continue;  // the age of a card moves by itself
      changedKeys.add(key);
      names.add(key.split(".")[0]);
    }
    if (isWhole) changedKeys.clear();
    if (keys.has("state.asked") && "state.asked" in changed && !isWhole) offset = keys.get("state.asked") - Date.now() / 1000;
    return isWhole ? null : names;
  }

  function describe(found) {
    page = found;
    questions.clear();
    found.questions.forEach((question) => questions.set(question.name, question));
  }

  function received(kind, value) {
    heard = Date.now();
    if (kind === "page") { describe(value); return; }
    if (kind === "end") { status(value.reason === "link" ? "ended" : "again", value.reason === "link" ? "This link has ended" : "The server has stopped"); return; }
    status("live", "Live");
    render(take(value, kind === "whole"));
  }

  // The stream: by fetch, as the token of a link belongs in a header and not in an address

  const headers = (more) => (token ? { Authorization: `Bearer ${token}`, ...more } : more);

  async function listen() {
    const ending = new AbortController();
    heard = Date.now();
    let first = true;
    const watch = setInterval(() => { if (Date.now() - heard > (first ? FIRST_MS : SILENT_MS)) ending.abort(); }, 1000);
    try {
      const more = last ? { "Last-Event-ID": last } : {};
      const answer = await fetch("events", { headers: headers({ Accept: "text/event-stream", ...more }), cache: "no-store", signal: ending.signal });
      if (answer.status === 403) { await refused(answer); return "refused"; }
      if (!answer.ok) return "again";
      const reader = answer.body.getReader(), decoder = new TextDecoder();
      for (let text = ""; ;) {
        const { value, done } = await reader.read();
        if (done) return first ? "silent" : "again";
        text += decoder.decode(value, { stream: true });
        heard = Date.now();
        const parts = text.split("\n\n");
        text = parts.pop();
        for (const part of parts) { if (parse(part)) first = false; }
      }
    } catch {
      return first && ending.signal.aborted ? "silent" : "again";
    } finally {
      clearInterval(watch);
    }
  }

  function parse(part) {
    const fields = new Map(part.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]));
    if (!fields.has("data")) return false;
    received(fields.get("event"), JSON.parse(fields.get("data")));
    if (fields.get("event") !== "page") last = fields.get("id");
    return true;
  }

  async function refused(answer) {
    const why = await answer.json().catch(() => ({ message: "this page may not be read" }));
    status("ended", why.message);
  }

  /** For a proxy that holds streams back: everything, again and again. */
  async function poll() {
    const answer = await fetch("state", { headers: headers({}), cache: "no-store" });
    if (answer.status === 403) { await refused(answer); return "refused"; }
    if (!answer.ok) return "again";
    const found = await answer.json();
    describe(found.page);
    last = found.id;
    received("whole", found.keys);
    return "polled";
  }

  const pause = (ms) => new Promise((done) => { setTimeout(done, ms); });

  async function run() {
    for (let failed = 0, silent = false; ;) {
      const how = await (silent ? poll() : listen()).catch(() => "again");
      if (how === "refused") return;
      silent = silent || how === "silent";
      if (how === "again") status("again", "Reconnecting");
      failed = how === "again" && Date.now() - heard > 5000 ? failed + 1 : 0;
      await pause(how === "polled" ? Math.max(POLL_MS, (page.every || 1) * 1000) : Math.min(30000, 500 * 2 ** failed));
    }
  }

  id("pause").addEventListener("click", () => {
    paused = !paused;
    id("pause").setAttribute("aria-pressed", String(paused));
    id("pause").textContent = paused ? "Resume" : "Pause";
    status(paused ? "paused" : "live", paused ? "Paused" : "Live");
    if (!paused) render(null);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    charts.forEach((chart) => chart.destroy());
    charts.clear();
    render(null);
  });
  setInterval(() => { if (!paused) ages(); }, 1000);
  run();
})();
