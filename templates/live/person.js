// A person's page: what /v1 answers to the key that was typed. All text is set as text; nothing is stored.
"use strict";
(() => {
  const id = (name) => document.getElementById(name);
  const shown = (value) => (value === null || value === undefined ? "–" : String(value));

  function make(tag, text, className) {
    const made = document.createElement(tag);
    if (text !== undefined && text !== null) made.textContent = text;
    if (className) made.className = className;
    return made;
  }

  function card(title, ...content) {
    const made = make("section", null, "card half");
    made.append(make("h2", title), ...content);
    return made;
  }

  function pairs(row) {
    const made = make("dl", null, "more");
    for (const [name, value] of Object.entries(row)) {
      const cell = make("dd", shown(value));
      cell.dataset.key = name;
      made.append(make("dt", name), cell);
    }
    return made;
  }

  /** A table of rows; the columns in `bars` also as a bar, as long as their part of the largest. */
  function table(rows, bars) {
    if (!rows.length) return make("p", "none");
    const made = make("table"), head = make("tr"), names = Object.keys(rows[0]);
    for (const name of names) { const cell = make("th", name); cell.scope = "col"; head.append(cell); }
    made.append(head);
    for (const row of rows) {
      const line = make("tr");
      for (const name of names) {
        const cell = make("td", shown(row[name]));
        if (bars.includes(name) && typeof row[name] === "number") {
          const bar = make("meter");
          bar.max = Math.max(...rows.map((each) => each[name] || 0)) || 1;
          bar.value = row[name];
          bar.setAttribute("aria-hidden", "true");
          cell.append(bar);
        }
        line.append(cell);
      }
      made.append(line);
    }
    return made;
  }

  async function ask(kind, person) {
    const reply = await fetch(`v1/${kind}/${encodeURIComponent(person)}`, {
      headers: { Authorization: `Bearer ${id("key").value}` }, cache: "no-store",
    });
    const answer = await reply.json();
    return reply.ok ? answer : { refused: answer.message };
  }

  function profile(answer) {
    if (answer.refused) return [card("Profile", make("p", answer.refused))];
    const counts = ["events_1d", "events_7d", "events_28d", "active_days_28d", "sessions_28d"];
    const own = answer.profile || {};
    const cards = [card(`Profile as of ${shown(answer.as_of)}`, pairs(own))];
    if (answer.live) cards.unshift(card("Since then", pairs(answer.live)));
    if (answer.profile) {
      const rows = counts.map((name) => ({ what: name, count: own[name] }));
      cards.push(card("How often", table(rows, ["count"])));
    }
    cards.push(card("Interests", table(answer.interests, ["share"])));
    cards.push(card("Values", table(answer.values, [])), card("Attributes", table(answer.attributes, [])));
    return cards;
  }

  function recommended(answer) {
    if (answer.refused) return card("Recommendations", make("p", answer.refused));
    const title = answer.of === "person" ? "Recommendations" : "Recommendations, as for everybody";
    return card(`${title} as of ${shown(answer.as_of)}`, table(answer.recommendations, ["score"]));
  }

  id("ask").addEventListener("submit", async (event) => {
    event.preventDefault();
    const person = id("person").value;
    id("said").textContent = "Asking";
    try {
      const [one, other] = await Promise.all([ask("profiles", person), ask("recommendations", person)]);
      id("main").replaceChildren(...profile(one), recommended(other));
      id("said").textContent = one.refused || "";
    } catch {
      id("main").replaceChildren();
      id("said").textContent = "The server cannot be reached; try again.";
    }
  });
})();
