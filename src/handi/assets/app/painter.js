// The brush. Python puts {photo, area} into props.value, both PNG as data URLs of one size; after each change
// props.value is {mask}, a PNG that is opaque where things may move, or null where nothing is painted.
// A pixel is painted when its centre is no farther than the brush's radius from the pointer's way.
const COLOUR = [40, 110, 255];
const root = element.querySelector(".painter");
const image = root.querySelector("img");
const canvas = root.querySelector("canvas");
const context = canvas.getContext("2d", { willReadFrequently: true });
const radius = root.querySelector("input");
let tool = "paint", last = null, before = [], pixels = null;

function tell() {
  let any = false;
  for (let i = 3; i < pixels.data.length && !any; i += 4) any = pixels.data[i] > 0;
  props.value = { mask: any ? canvas.toDataURL("image/png") : null };
}

function show() { context.putImageData(pixels, 0, 0); }

function remember() {
  before.push(pixels.data.slice());
  if (before.length > 20) before.shift();
}

function fill(inside) {
  for (let i = 0; i < pixels.data.length; i += 4) {
    pixels.data.set(inside ? [...COLOUR, 255] : [0, 0, 0, 0], i);
  }
  show();
}

function stroke([ax, ay], [bx, by]) {
  const r = Number(radius.value), dx = bx - ax, dy = by - ay, length = dx * dx + dy * dy;
  const left = Math.max(0, Math.floor(Math.min(ax, bx) - r)), top = Math.max(0, Math.floor(Math.min(ay, by) - r));
  const right = Math.min(canvas.width, Math.ceil(Math.max(ax, bx) + r));
  const bottom = Math.min(canvas.height, Math.ceil(Math.max(ay, by) + r));
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) {
      const px = x + 0.5 - ax, py = y + 0.5 - ay;
      const t = length ? Math.min(1, Math.max(0, (px * dx + py * dy) / length)) : 0;
      const fx = px - t * dx, fy = py - t * dy;
      if (fx * fx + fy * fy <= r * r) {
        pixels.data.set(tool === "paint" ? [...COLOUR, 255] : [0, 0, 0, 0], 4 * (y * canvas.width + x));
      }
    }
  }
  show();
}

function place(event) {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) * canvas.width / box.width,
          (event.clientY - box.top) * canvas.height / box.height];
}

canvas.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  canvas.setPointerCapture(event.pointerId);
  remember();
  last = place(event);
  stroke(last, last);
});
canvas.addEventListener("pointermove", (event) => {
  if (last === null) return;
  const here = place(event);
  stroke(last, here);
  last = here;
});
for (const end of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(end, () => {
    if (last === null) return;
    last = null;
    tell();
  });
}

root.querySelector(".tools").addEventListener("click", (event) => {
  const { tool: chosen, act } = event.target.dataset;
  if (chosen) {
    tool = chosen;
    for (const button of root.querySelectorAll("[data-tool]")) {
      button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
    }
  }
  if (!act || !pixels) return;
  if (act === "undo") {
    if (!before.length) return;
    pixels.data.set(before.pop());
    show();
  } else {
    remember();
    fill(act === "full");
  }
  tell();
});

function loaded(source) {
  return new Promise((resolve, reject) => {
    const picture = new Image();
    picture.onload = () => resolve(picture);
    picture.onerror = reject;
    picture.src = source;
  });
}

async function load() {
  const value = props.value;
  if (!value || !value.photo) return;
  const photo = await loaded(value.photo);
  canvas.width = photo.naturalWidth;
  canvas.height = photo.naturalHeight;
  if (value.area) context.drawImage(await loaded(value.area), 0, 0);
  pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  before = [];
  image.src = value.photo;
  root.dataset.ready = "true";
  root.dataset.loads = String(Number(root.dataset.loads || 0) + 1);
}

watch("value", load);
load();
