"use strict";
(() => {
  const get = (id) => document.getElementById(id);
  const data = JSON.parse(get("data").textContent);
  const viewer = get("viewer"), canvas = get("canvas"), context = canvas.getContext("2d");
  const state = { picture: 0, left: data.start[0], right: data.start[1], view: "picture",
    layout: "slider", split: 0.5, zoom: 1, x: 0, y: 0, fitted: true };
  const GRAB = 16, LEAST = 1 / 16, MOST = 32;
  let drawn = new Map(), turn = 0;

  // ---- pictures: decoded when they are first shown, those of one picture at a time

  const current = () => data.pictures[state.picture];

  function blank(width, height) {
    const made = document.createElement("canvas");
    made.width = width;
    made.height = height;
    return made;
  }

  function remember(key, make) {
    if (!drawn.has(key)) drawn.set(key, make());
    return drawn.get(key);
  }

  const decoded = (layer) => remember(`${state.picture} ${layer}`, async () => {
    const image = new Image();
    image.src = current().sources[layer];
    await image.decode();
    const made = blank(image.naturalWidth, image.naturalHeight);
    made.getContext("2d", { willReadFrequently: true }).drawImage(image, 0, 0);
    return made;
  });

  const pixels = (made) => made.getContext("2d").getImageData(0, 0, made.width, made.height);

  // Difference: how far from the clean picture, black where equal. Removed: the noisy picture
  // less this one, around mid-grey.
  function shown(layer) {
    const view = state.view, gain = gainNow(), index = state.picture;
    if (view === "picture") return decoded(layer);
    return remember(`${index} ${layer} ${view} ${gain}`, async () => {
      const base = view === "difference" ? data.clean : data.noisy;
      const [one, other] = await Promise.all([decoded(base), decoded(layer)]);
      const from = pixels(one).data, result = pixels(other), to = result.data;
      for (let i = 0; i < to.length; i++) {
        if (i % 4 === 3) continue;
        const change = gain * (from[i] - to[i]);
        to[i] = view === "difference" ? Math.abs(change) : 128 + change;
      }
      const made = blank(other.width, other.height);
      made.getContext("2d").putImageData(result, 0, 0);
      return made;
    });
  }

  const gainNow = () => Math.min(50, Math.max(1, Number(get("gain").value) || 1));

  // ---- drawing: both sides with one zoom and one centre

  function panes(width) {
    const middle = state.layout === "slider" ? width * state.split : width / 2;
    const centres = state.layout === "slider" ? [width / 2, width / 2] : [width / 4, 3 * width / 4];
    return [
      { layer: state.left, from: 0, to: middle, centre: centres[0] },
      { layer: state.right, from: middle, to: width, centre: centres[1] },
    ];
  }

  function fitZoom() {
    const width = viewer.clientWidth / (state.layout === "slider" ? 1 : 2);
    const { width: w, height: h } = current();
    return Math.min(width / w, viewer.clientHeight / h, 8);
  }

  async function draw() {
    const mine = ++turn;
    viewer.dataset.ready = "";
    const shape = current().width / current().height * (state.layout === "slider" ? 1 : 2);
    viewer.style.aspectRatio = String(shape);
    if (state.fitted) {
      state.zoom = fitZoom();
      [state.x, state.y] = [current().width / 2, current().height / 2];
    }
    tell();
    const images = await Promise.all([shown(state.left), shown(state.right)]);
    if (mine !== turn) return;
    const scale = window.devicePixelRatio || 1;
    const width = viewer.clientWidth, height = viewer.clientHeight;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    const sides = panes(width);
    sides.forEach((side, index) => {
      context.save();
      context.scale(scale, scale);
      context.beginPath();
      context.rect(side.from, 0, side.to - side.from, height);
      context.clip();
      context.translate(side.centre, height / 2);
      context.scale(state.zoom, state.zoom);
      context.translate(-state.x, -state.y);
      context.imageSmoothingEnabled = state.zoom < 1;
      context.imageSmoothingQuality = "high";
      context.drawImage(images[index], 0, 0);
      context.restore();
    });
    context.save();
    context.scale(scale, scale);
    context.fillStyle = "#000000";
    context.fillRect(sides[0].to - 1.5, 0, 3, height);
    context.fillStyle = "#ffffff";
    context.fillRect(sides[0].to - 0.5, 0, 1, height);
    if (state.layout === "slider") {
      context.beginPath();
      context.arc(sides[0].to, height / 2, 7, 0, 2 * Math.PI);
      context.fill();
      context.strokeStyle = "#000000";
      context.stroke();
    }
    context.restore();
    viewer.dataset.ready = "yes";
  }

  function named(layer) {
    const note = current().notes[layer];
    return data.layers[layer] + (note ? ` ${note}` : "");
  }

  function tell() {
    const left = named(state.left), right = named(state.right);
    const zoom = `${Math.round(100 * state.zoom)} %`;
    get("left-tag").textContent = left;
    get("right-tag").textContent = right;
    get("status").textContent = `${current().name}: left ${left}, right ${right}, ${zoom}`;
    canvas.setAttribute("aria-label", get("status").textContent);
    get("note").textContent = current().note;
    get("divider").setAttribute("aria-valuetext", `${Math.round(100 * state.split)} % left`);
    viewer.dataset.zoom = state.zoom.toFixed(4);
  }

  // ---- what can be changed

  function zoomTo(zoom, atX = null, atY = null) {
    zoom = Math.min(MOST, Math.max(LEAST, zoom));
    if (atX !== null) { // what is under the pointer stays there
      state.x += atX / state.zoom - atX / zoom;
      state.y += atY / state.zoom - atY / zoom;
    }
    state.zoom = zoom;
    state.fitted = false;
    keepInside();
    draw();
  }

  function move(dx, dy) {
    state.x -= dx / state.zoom;
    state.y -= dy / state.zoom;
    state.fitted = false;
    keepInside();
    draw();
  }

  function keepInside() {
    state.x = Math.min(current().width, Math.max(0, state.x));
    state.y = Math.min(current().height, Math.max(0, state.y));
  }

  function divide(split) {
    state.split = Math.min(1, Math.max(0, split));
    get("divider").value = Math.round(1000 * state.split);
    draw();
  }

  function choose(index) {
    const before = current();
    state.picture = (index + data.pictures.length) % data.pictures.length;
    const now = current();
    if (before.width !== now.width || before.height !== now.height) state.fitted = true;
    drawn = new Map();
    get("picture").value = state.picture;
    draw();
  }

  function fill(select, names, chosen) {
    names.forEach((name, index) => select.add(new Option(name, index, false, index === chosen)));
  }

  function set(key) {
    return (event) => { state[key] = Number(event.target.value); draw(); };
  }

  fill(get("picture"), data.pictures.map((picture) => picture.name), 0);
  get("picture-label").hidden = data.pictures.length < 2;
  fill(get("left"), data.layers, state.left);
  fill(get("right"), data.layers, state.right);
  get("view").add(new Option("pictures", "picture"));
  if (data.clean !== null) get("view").add(new Option("difference from clean", "difference"));
  get("view").add(new Option("what was removed", "removed"));
  get("gain-label").hidden = true;

  get("picture").addEventListener("change", (event) => choose(Number(event.target.value)));
  get("left").addEventListener("change", set("left"));
  get("right").addEventListener("change", set("right"));
  get("view").addEventListener("change", (event) => {
    state.view = event.target.value;
    get("gain-label").hidden = state.view === "picture";
    draw();
  });
  get("gain").addEventListener("input", draw);
  get("layout").addEventListener("change", (event) => {
    state.layout = event.target.value;
    get("divider-label").hidden = state.layout !== "slider";
    draw();
  });
  get("divider").addEventListener("input", (event) => divide(event.target.value / 1000));
  get("in").addEventListener("click", () => zoomTo(state.zoom * 1.5));
  get("out").addEventListener("click", () => zoomTo(state.zoom / 1.5));
  get("one").addEventListener("click", () => zoomTo(1));
  get("fit").addEventListener("click", () => { state.fitted = true; draw(); });

  function swap() {
    [state.left, state.right] = [state.right, state.left];
    get("left").value = state.left;
    get("right").value = state.right;
    draw();
  }

  viewer.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = viewer.clientHeight / 8;
    const does = {
      ArrowLeft: () => move(step, 0), ArrowRight: () => move(-step, 0),
      ArrowUp: () => move(0, step), ArrowDown: () => move(0, -step),
      "+": () => zoomTo(state.zoom * 1.5), "=": () => zoomTo(state.zoom * 1.5),
      "-": () => zoomTo(state.zoom / 1.5), 1: () => zoomTo(1),
      0: () => { state.fitted = true; draw(); },
      x: swap, X: swap,
      PageUp: () => choose(state.picture - 1), PageDown: () => choose(state.picture + 1),
    }[event.key];
    if (does) {
      event.preventDefault();
      does();
    }
  });

  // ---- pointers: the line, the picture, two fingers

  const pointers = new Map();
  let dividing = false;

  const place = (event) => {
    const box = viewer.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };

  const onLine = (at) => state.layout === "slider"
    && Math.abs(at.x - state.split * viewer.clientWidth) < GRAB;

  const fromCentre = (at) => {
    const width = viewer.clientWidth, [one, other] = panes(width);
    return [at.x - (at.x < one.to ? one : other).centre, at.y - viewer.clientHeight / 2];
  };

  const apart = () => {
    const [one, other] = [...pointers.values()];
    return Math.hypot(one.x - other.x, one.y - other.y);
  };

  viewer.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    viewer.setPointerCapture(event.pointerId);
    const at = place(event);
    dividing = pointers.size === 0 && onLine(at);
    pointers.set(event.pointerId, at);
    viewer.classList.toggle("moving", !dividing);
  });

  viewer.addEventListener("pointermove", (event) => {
    const at = place(event), before = pointers.get(event.pointerId);
    viewer.classList.toggle("dividing", dividing || (!before && onLine(at)));
    if (!before) return;
    const distance = pointers.size === 2 ? apart() : 0;
    pointers.set(event.pointerId, at);
    if (dividing) divide(at.x / viewer.clientWidth);
    else if (pointers.size === 1) move(at.x - before.x, at.y - before.y);
    else if (distance) zoomTo(state.zoom * apart() / distance, ...fromCentre(at));
  });

  for (const ending of ["pointerup", "pointercancel"]) {
    viewer.addEventListener(ending, (event) => {
      pointers.delete(event.pointerId);
      dividing = false;
      viewer.classList.remove("moving", "dividing");
    });
  }

  viewer.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && document.activeElement !== viewer) return;
    event.preventDefault();
    zoomTo(state.zoom * Math.exp(-event.deltaY / 400), ...fromCentre(place(event)));
  }, { passive: false });

  new ResizeObserver(draw).observe(viewer);

  // ---- tables

  const keyOf = (row, column) => {
    const cell = row.cells[column], value = cell.dataset.value;
    return value === undefined ? cell.textContent : Number(value);
  };

  function sortBy(table, column) {
    const heads = [...table.tHead.rows[0].cells];
    const down = heads[column].getAttribute("aria-sort") === "none"
      ? heads[column].classList.contains("n")
      : heads[column].getAttribute("aria-sort") === "ascending";
    heads.forEach((head) => head.setAttribute("aria-sort", "none"));
    heads[column].setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows].sort((one, other) => {
      const a = keyOf(one, column), b = keyOf(other, column);
      const order = typeof a === "number" && typeof b === "number" ? (a > b) - (a < b)
        : String(a).localeCompare(String(b), undefined, { numeric: true });
      return down ? -order : order;
    });
    table.tBodies[0].append(...rows);
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      head.setAttribute("aria-sort", head.getAttribute("aria-sort") || "none");
      button.addEventListener("click", () => sortBy(table, column));
    });
  }

  for (const head of document.querySelectorAll("tbody th[data-picture]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      choose(Number(head.dataset.picture));
      viewer.scrollIntoView({ block: "center" });
      viewer.focus({ preventScroll: true });
    });
  }

  for (const code of document.querySelectorAll("code.copied")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch {
        window.getSelection().selectAllChildren(code);
      }
    });
    code.parentElement.prepend(button);
  }

  const theme = get("theme");
  theme.hidden = false;
  theme.addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark"
      : window.matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });

  get("look").hidden = false;
  draw();
})();
