
"use strict";
(() => {
  const find = (id) => document.getElementById(id);
  const all = (query, from = document) => [...from.querySelectorAll(query)];
  const data = JSON.parse(find("data").textContent);
  const video = document.querySelector("video");
  const pieces = data.pieces;
  const panels = all(".slot");
  const strip = all(".piece");
  const slots = new Map(panels.filter((panel) => panel.dataset.slot).map((panel) => [Number(panel.dataset.slot), panel]));
  document.documentElement.classList.remove("plain");

  // Pictures: the strip shows those of the panels, so that each is in the file once.
  panels.forEach((panel, number) => {
    const picture = document.createElement("img");
    picture.alt = "";
    picture.src = panel.querySelector(".play img").src;
    strip[number].prepend(picture);
  });
  all("[data-choose]").forEach((button) => {
    const source = data.pictures[button.dataset.choose];
    if (source) {
      const picture = button.querySelector("img");
      picture.src = source;
      picture.hidden = false;
    }
  });

  // Playing
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const reel = document.querySelector(".reel");
  const scroll = document.querySelector(".scroll");
  const playhead = document.querySelector(".playhead");
  const length = pieces[pieces.length - 1].end;
  let playing = -1;

  const follow = () => {
    const at = video.currentTime;
    playhead.style.left = `${(100 * Math.min(at, length)) / length}%`;
    const number = pieces.findLastIndex((piece) => piece.start <= at + data.frame / 4);
    if (number === playing || (playing < 0 && video.paused && at === 0)) return;
    playing = number;
    panels.forEach((panel, n) => {
      panel.classList.toggle("playing", n === number);
      n === number ? strip[n].setAttribute("aria-current", "true") : strip[n].removeAttribute("aria-current");
    });
    all(".links path").forEach((path) => path.classList.toggle("playing", Number(path.dataset.slot) === pieces[number].slot));
    const left = reel.offsetWidth * (pieces[number].start / length);
    if (left < scroll.scrollLeft || left > scroll.scrollLeft + 0.8 * scroll.clientWidth) {
      scroll.scrollTo({ left: left - 0.1 * scroll.clientWidth, behavior: calm.matches ? "auto" : "smooth" });
    }
  };
  const tick = () => {
    follow();
    if (!video.paused && !video.ended) requestAnimationFrame(tick);
  };
  video.addEventListener("play", tick);
  video.addEventListener("timeupdate", follow);
  video.addEventListener("seeked", follow);
  const miss = () => {
    document.querySelector(".absent").hidden = !video.error;
    video.hidden = Boolean(video.error); // a player that plays nothing would only take room
  };
  video.addEventListener("error", miss);
  video.addEventListener("loadedmetadata", miss);
  miss();

  const playFrom = (number) => {
    video.currentTime = pieces[number].start + data.frame / 4; // within the first picture, not on the edge before it
    video.play().catch(() => {}); // absent, which the page says, or interrupted by the next click
    follow();
  };
  all("[data-piece]").filter((button) => button.tagName === "BUTTON").forEach((button) => {
    button.addEventListener("click", () => playFrom(Number(button.dataset.piece)));
  });
  const reach = (to) => strip.forEach((button, n) => { button.tabIndex = n === to ? 0 : -1; }); // by Tab: one of the strip
  strip.forEach((button, n) => button.addEventListener("focus", () => reach(n)));
  const steps = { ArrowLeft: (n) => n - 1, ArrowRight: (n) => n + 1, Home: () => 0, End: () => strip.length - 1 };
  document.querySelector(".strip").addEventListener("keydown", (event) => {
    const from = strip.indexOf(document.activeElement);
    if (from < 0 || !(event.key in steps)) return;
    event.preventDefault();
    const to = Math.max(0, Math.min(strip.length - 1, steps[event.key](from)));
    strip[to].focus();
  });

  // The changes: one value, replaced as a whole; undo goes back to the one before.
  const untouched = { pins: {}, keep: null, bans: [], swaps: [], reseed: null, out: "" };
  let now = untouched;
  const before = [];

  const without = (list, item) => list.filter((other) => other !== item);
  const withIt = (list, item) => [...without(list, item), item].sort((a, b) => a - b);
  const unpin = (pins, drop) => Object.fromEntries(Object.entries(pins).filter(([slot, shot]) => !drop(Number(slot), shot)));

  const put = (slot, shot) => { // this shot into this slot, and into no other
    const own = Number(slots.get(slot).dataset.shot);
    if (now.pins[slot] === shot) {
      change({ pins: unpin(now.pins, (other) => other === slot) }, `Slot ${slot} is as it was.`);
      return;
    }
    const pins = { ...unpin(now.pins, (other, its) => other === slot || its === shot), [slot]: shot };
    change(
      { pins, bans: without(now.bans, shot), swaps: without(now.swaps, slot) },
      shot === own ? `Slot ${slot} keeps shot ${shot}.` : `Slot ${slot} gets shot ${shot}.`,
    );
  };
  const actions = {
    pin: (slot, shot) => put(slot, shot),
    ban: (slot, shot) => {
      if (now.bans.includes(shot)) {
        change({ bans: without(now.bans, shot) }, `Shot ${shot} may be used again.`);
        return;
      }
      const pins = unpin(now.pins, (_, its) => its === shot);
      change({ pins, bans: withIt(now.bans, shot), swaps: without(now.swaps, slot) }, `Shot ${shot} will not be used.`);
    },
    swap: (slot, shot) => {
      if (now.swaps.includes(slot)) {
        change({ swaps: without(now.swaps, slot) }, `Slot ${slot} is as it was.`);
        return;
      }
      const pins = unpin(now.pins, (other) => other === slot);
      change({ pins, bans: without(now.bans, shot), swaps: withIt(now.swaps, slot) }, `Slot ${slot} gets its next best shot.`);
    },
  };

  // The command
  const quoteWord = (word) => (/^[A-Za-z0-9_@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\"'\"'")}'`);
  const quoteFile = (name) => quoteWord(name.startsWith("-") ? `./${name}` : name);
  const writeRanges = (numbers) => {
    const runs = [];
    numbers.forEach((number) => {
      const last = runs[runs.length - 1];
      last && number === last[1] + 1 ? (last[1] = number) : runs.push([number, number]);
    });
    return runs.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(",");
  };
  const readRanges = (text) => { // throws what is wrong with it
    const numbers = new Set();
    text.split(",").map((part) => part.trim()).filter(Boolean).forEach((part) => {
      const match = /^(\d{1,6})(?:\s*-\s*(\d{1,6}))?$/.exec(part);
      if (!match) throw new Error(`“${part}” is no slot and no range of slots such as 0-3.`);
      const [first, last] = [Number(match[1]), Number(match[2] ?? match[1])];
      if (last < first) throw new Error(`The range ${part} goes backwards.`);
      if (!slots.has(first) || !slots.has(last)) throw new Error(`Slots go from 0 to ${slots.size - 1}; there is no ${part}.`);
      for (let slot = first; slot <= last; slot += 1) numbers.add(slot);
    });
    return numbers.size ? [...numbers].sort((a, b) => a - b) : null;
  };
  const keeps = () => { // what is kept and changed at once is changed
    const moved = new Set(Object.values(now.pins));
    const kept = (now.keep ?? []).filter((slot) => {
      const shot = Number(slots.get(slot).dataset.shot);
      const pinned = now.pins[slot] === shot;
      return pinned || !(slot in now.pins || moved.has(shot) || now.bans.includes(shot) || now.swaps.includes(slot));
    });
    return kept.length ? kept : null;
  };
  const listPins = () => Object.keys(now.pins).map(Number).sort((a, b) => a - b);
  const writeWords = () => [
    "trailer refine", quoteFile(data.plan),
    ...listPins().map((slot) => `--pin ${slot}=${now.pins[slot]}`),
    ...(keeps() ? [`--keep ${writeRanges(keeps())}`] : []),
    ...now.bans.map((shot) => `--ban ${shot}`),
    ...now.swaps.map((slot) => `--swap ${slot}`),
    ...(now.reseed === null ? [] : [`--reseed ${now.reseed}`]),
    ...(now.out ? [`--out ${quoteFile(now.out)}`] : []),
  ];
  const writeCommand = () => writeWords().join(" ");
  const showCommand = () => find("command").replaceChildren(...writeWords().flatMap((words, n) => { // it breaks between options
    const span = document.createElement("span");
    span.textContent = words;
    return n ? [" ", span] : [span];
  }));
  const writeEdits = () => JSON.stringify({
    schema: 1,
    pins: Object.fromEntries(listPins().map((slot) => [slot, now.pins[slot]])),
    keep: keeps(), bans: now.bans, swaps: now.swaps, reseed: now.reseed,
  });
  const editsName = () => `${data.plan.split("/").pop().replace(/\.edit\.json$/, "")}.edits.json`;

  const writeWithFile = () => [
    "trailer refine", quoteFile(data.plan), "--edits", quoteFile(editsName()), ...(now.out ? ["--out", quoteFile(now.out)] : []),
  ].join(" ");

  const change = (parts, said) => {
    const next = { ...now, ...parts };
    if (JSON.stringify(next) === JSON.stringify(now)) return;
    before.push(now);
    now = next;
    render(said);
  };
  const countChanges = () => Object.keys(now.pins).length + now.bans.length + now.swaps.length + (now.reseed !== null);

  const describe = (slot, shot) => {
    const pin = now.pins[slot];
    if (pin !== undefined && pin !== shot) return ["chosen", `Shot ${pin} comes here${now.bans.includes(shot) ? `; shot ${shot} is banned` : ""}`];
    if (pin !== undefined) return ["pinned", "Pinned: this shot stays"];
    if (now.bans.includes(shot)) return ["banned", `Banned: shot ${shot} is not used`];
    if (now.swaps.includes(slot)) return ["swapped", "Swapped: the next best comes here"];
    if (Object.values(now.pins).includes(shot)) return ["anew", `Shot ${shot} goes elsewhere: another comes here`];
    const stays = now.keep ? now.keep.includes(slot) : "pinned" in slots.get(slot).dataset; // pinned in an earlier change
    if (now.reseed !== null && !stays) return ["anew", "Chosen anew"];
    return ["", ""];
  };
  const render = (said) => {
    slots.forEach((panel, slot) => {
      const shot = Number(panel.dataset.shot);
      const [kind, text] = describe(slot, shot);
      [panel, strip[Number(panel.dataset.piece)]].forEach((element) => {
        ["pinned", "banned", "swapped", "chosen", "anew"].forEach((name) => element.classList.toggle(name, name === kind));
      });
      const state = panel.querySelector(".state");
      state.textContent = text;
      state.hidden = !text;
      const pressed = { pin: now.pins[slot] === shot, ban: now.bans.includes(shot), swap: now.swaps.includes(slot) };
      all("[data-action]", panel).forEach((button) => button.setAttribute("aria-pressed", String(pressed[button.dataset.action])));
      all("[data-choose]", panel).forEach((button) => {
        button.setAttribute("aria-pressed", String(now.pins[slot] === Number(button.dataset.choose)));
      });
    });
    const count = countChanges();
    find("told").textContent = said;
    showCommand();
    find("command").scrollLeft = find("command").scrollWidth; // on a phone it is one line: show what was added
    find("command").hidden = !count;
    find("json").textContent = writeEdits();
    find("with-file").textContent = writeWithFile();
    find("count").textContent = `${count} change${count === 1 ? "" : "s"}`;
    find("count").hidden = !count;
    const off = { copy: !count, download: !count, undo: !before.length, reset: now === untouched };
    Object.entries(off).forEach(([id, is]) => find(id).setAttribute("aria-disabled", String(is)));
    all('[name="rest"]').forEach((radio) => { radio.checked = (radio.value === "anew") === (now.reseed !== null); });
    if (now.reseed !== null) find("seed").value = now.reseed;
    find("keep").value = now.keep ? writeRanges(now.keep) : "";
    find("out").value = now.out;
    complain("");
    measure();
  };

  slots.forEach((panel, slot) => {
    const shot = Number(panel.dataset.shot);
    all("[data-action]", panel).forEach((button) => button.addEventListener("click", () => actions[button.dataset.action](slot, shot)));
    all("[data-choose]", panel).forEach((button) => button.addEventListener("click", () => put(slot, Number(button.dataset.choose))));
  });

  // Everything else
  const complain = (text, field = null) => {
    find("wrong").textContent = text;
    ["seed", "keep", "out"].forEach((id) => find(id).setAttribute("aria-invalid", String(id === field)));
  };
  const readRest = () => {
    let keep = null;
    try {
      keep = readRanges(find("keep").value);
    } catch (error) {
      complain(error.message, "keep");
      return;
    }
    const seed = find("seed").value.trim();
    if (!/^\d{1,10}$/.test(seed) || Number(seed) > 2147483647) {
      complain("A seed is a whole number from 0 to 2147483647.", "seed");
      return;
    }
    if (!find("anew").checked) {
      complain("");
      change({ reseed: null, keep: null }, "Slots that you do not touch stay as they are.");
      return;
    }
    complain("");
    const rest = keep ? `except slots ${writeRanges(keep)} ` : "";
    change({ reseed: Number(seed), keep }, `Everything that you do not pin ${rest}is chosen anew with seed ${Number(seed)}.`);
  };
  all('[name="rest"]').forEach((radio) => radio.addEventListener("change", readRest));
  ["seed", "keep"].forEach((id) => find(id).addEventListener("change", () => {
    if (id === "keep" && find("keep").value.trim()) find("anew").checked = true; // what is kept says nothing where all is
    readRest();
  }));
  find("out").addEventListener("change", () => {
    const name = find("out").value.trim();
    if (name && !/\.mp4$/i.test(name)) {
      complain("The file must end in .mp4.", "out");
      return;
    }
    complain("");
    change({ out: name }, name ? `The new trailer is written to ${name}.` : "The new trailer's name is chosen by the program.");
  });

  // Copy, download, undo, reset
  const say = (text) => { find("told").textContent = text; };
  const press = (id, act) => find(id).addEventListener("click", () => { if (find(id).getAttribute("aria-disabled") !== "true") act(); });
  const copyOldWay = () => {
    const range = document.createRange();
    range.selectNodeContents(find("command"));
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    return document.execCommand("copy");
  };
  const told = (done) => say(done ? "Copied. Run it in the folder of this page." : "This browser does not copy: select the command below.");
  press("copy", () => {
    if (!navigator.clipboard) return told(copyOldWay());
    return navigator.clipboard.writeText(writeCommand()).then(() => told(true), () => told(copyOldWay()));
  });
  press("download", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([`${writeEdits()}\n`], { type: "application/json" }));
    link.download = editsName();
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    say(`${link.download} is saved. Beside this page: ${find("with-file").textContent}`);
  });
  press("undo", () => { now = before.pop(); render("Undone."); });
  press("reset", () => { before.push(now); now = untouched; render("All changes are taken back. Undo brings them again."); });

  // What is fixed to the window's edges must not cover what has the focus.
  const measure = () => {
    const fixed = getComputedStyle(find("changes")).position === "fixed";
    const style = document.documentElement.style;
    style.setProperty("--bar", fixed ? `${find("changes").offsetHeight}px` : "0px");
    style.setProperty("--player", `${document.querySelector(".player").offsetHeight}px`);
  };
  new ResizeObserver(measure).observe(find("changes"));
  new ResizeObserver(measure).observe(video);
  measure();
  find("json").textContent = writeEdits();
  find("with-file").textContent = writeWithFile();
})();
