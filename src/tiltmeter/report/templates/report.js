// Everything the page does beyond being read: tooltips, picture filters, links into closed details, the flips browser.
// Text of models and data sets is only ever set with textContent. No request is made, nothing is stored.
"use strict";
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const words = JSON.parse($("#words").textContent);

  // A link to numbers inside closed <details> opens them.
  const reveal = () => {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let box = target.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
    target.scrollIntoView();
    if (target.classList.contains("facts")) target.focus({ preventScroll: true });
  };
  addEventListener("hashchange", reveal);

  // Paper cannot be opened: closed details are, while it prints.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = $$("details:not([open], .not-printed)");
    for (const box of opened) box.open = true;
  });
  addEventListener("afterprint", () => { for (const box of opened) box.open = false; });
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    if (link && link.getAttribute("href") === location.hash) setTimeout(reveal);
  });
  reveal();

  // Tooltips of picture marks: their own sentence, on hover and on keyboard focus.
  const tip = $("#tip");
  const show = (mark) => {
    tip.textContent = mark.getAttribute("aria-label");
    tip.hidden = false;
    const box = mark.getBoundingClientRect(), own = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(8, Math.min(box.left + box.width / 2 - own.width / 2, innerWidth - own.width - 8))}px`;
    tip.style.top = `${box.top > own.height + 16 ? box.top - own.height - 8 : box.bottom + 8}px`;
  };
  const markOf = (target) => {
    const link = target.closest && target.closest(".picture svg a");
    return link ? $("[aria-label]", link) : target.closest && target.closest(".picture svg [aria-roledescription='point']");
  };
  for (const [on, off] of [["pointerover", "pointerout"], ["focusin", "focusout"]]) {
    document.addEventListener(on, (event) => { const mark = markOf(event.target); if (mark) show(mark); });
    document.addEventListener(off, () => { tip.hidden = true; });
  }
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });

  // Pictures by benchmark, model and way of asking.
  for (const form of $$(".filters.pictures")) {
    const figures = $$(`[data-figures="${form.dataset.for}"] .picture`);
    const apply = () => {
      const wanted = new FormData(form);
      for (const figure of figures) {
        figure.hidden = [...wanted].some(([name, value]) => value && figure.dataset[name] && figure.dataset[name] !== value);
      }
    };
    form.addEventListener("change", apply);
    form.addEventListener("submit", (event) => event.preventDefault());
    apply();
  }

  // The contents show where the reader is.
  const links = new Map($$(".contents a").map((link) => [link.getAttribute("href").slice(1), link]));
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-10% 0px -80% 0px" });
  for (const id of links.keys()) { const section = document.getElementById(id); if (section) watcher.observe(section); }

  // The flips browser.
  const opener = $("#flips-open");
  if (!opener) return;
  const PAGE = 20, browser = $("#browser"), form = $("form", browser), list = $("#flips-list"), more = $("#flips-more");
  let flips = null, matching = [], shown = 0;

  const element = (name, className, text) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const load = () => {
    const data = JSON.parse($("#flips-data").textContent);
    flips = data.flips.map(([row, id, base, variant, direction, groups, prompt, before, after, why]) => ({
      ...data.rows[row], id, base, variant, direction: data.directions[direction], group: groups.map((place) => data.groups[place]),
      prompt: data.texts[prompt], before: data.texts[before], after: data.texts[after], why,
    }));
    for (const flip of flips) flip.found = [flip.id, flip.base, flip.variant, flip.prompt, flip.before, flip.after].join("\n").toLowerCase();
    for (const name of ["benchmark", "model", "strategy", "asked", "direction", "group"]) {
      const values = [...new Set(flips.flatMap((flip) => flip[name]))];
      const select = form.elements[name];
      for (const value of values) { const option = element("option", "", value); option.value = value; select.append(option); }
      if (values.length < 2) select.closest("label").hidden = true;
    }
  };
  const card = (flip) => {
    const item = element("li", "flip"), head = element("header");
    const link = element("a", "", flip.label);
    link.href = `#row-${flip.row}`;
    head.append(link, element("span", "badge v-" + flip.directionClass, flip.direction), element("span", "quiet", flip.id));
    if (flip.group.length) head.append(element("span", "quiet", flip.group.join(" · ")));
    item.append(head);
    if (flip.why) item.append(element("p", "quiet small", flip.why));
    const prompt = element("p", "prompt", flip.prompt);
    prompt.dir = "auto";
    item.append(prompt);
    const pair = element("div", "pair");
    for (const [title, label, text] of [[words.base, flip.base, flip.before], [flip.strategy, flip.variant, flip.after]]) {
      const side = element("div"), answer = element("p", "answer", text);
      answer.dir = "auto";
      side.append(element("p", "side", `${title} → ${label}`), answer);
      pair.append(side);
    }
    item.append(pair);
    return item;
  };
  const page = () => {
    const next = matching.slice(shown, shown + PAGE);
    list.append(...next.map((flip) => card({ ...flip, directionClass: words.directions[flip.direction] || "idle" })));
    shown += next.length;
    more.hidden = shown >= matching.length;
  };
  const apply = () => {
    const wanted = [...new FormData(form)].filter(([, value]) => value);
    const search = String(form.elements.search.value).trim().toLowerCase();
    matching = flips.filter((flip) => wanted.every(([name, value]) => name === "search" || (name === "group"
      ? flip.group.includes(value) : flip[name] === value)) && (!search || flip.found.includes(search)));
    $("#flips-count").textContent = words.count.replace("{n}", matching.length.toLocaleString()).replace("{of}", flips.length.toLocaleString());
    list.replaceChildren();
    shown = 0;
    page();
  };
  opener.addEventListener("click", () => {
    browser.hidden = !browser.hidden;
    opener.setAttribute("aria-expanded", String(!browser.hidden));
    if (!flips) { load(); apply(); }
    if (!browser.hidden) $("select, input", form).focus();
  });
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", () => { const from = list.children.length; page(); $("a", list.children[from])?.focus(); });
})();
