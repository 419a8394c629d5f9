"use strict";
// One clock for the page: `frame` says what every film shows. A film is a picture that holds all frames of a
// video side by side, of which a window shows one, so no two films can be out of step.
(() => {
  const page = document.body.dataset;
  const fps = Number(page.fps), frames = Number(page.frames);
  const films = [...document.querySelectorAll(".film")];
  const samples = [...document.querySelectorAll(".sample")];
  const play = document.getElementById("play"), slider = document.getElementById("frame");
  const speed = document.getElementById("speed"), shown = document.getElementById("shown");
  let frame = 0, playing = true, current = 0, due = 0;

  function show(number) {
    frame = ((number % frames) + frames) % frames;
    for (const film of films) {
      const { count, columns, rows } = film.dataset;
      const at = Math.min(frame, count - 1);  // a shorter video holds its last frame
      film.firstElementChild.style.transform =
        `translate(${-(at % columns) / columns * 100}%, ${-Math.floor(at / columns) / rows * 100}%)`;
    }
    slider.value = frame;
    shown.textContent = `${frame + 1} / ${frames}`;
    page.frame = frame;
  }

  function toggle(on = !playing) {
    playing = on;
    play.textContent = playing ? "Pause" : "Play";
    page.playing = playing;
    due = performance.now() + 1000 / fps;
  }

  function step(by) { toggle(false); show(frame + by); }

  function mark(number) {
    current = Math.max(0, Math.min(samples.length - 1, number));
    samples.forEach((sample, n) => sample.classList.toggle("current", n === current));
  }

  function go(number) { mark(number); samples[current].scrollIntoView({ block: "start" }); }

  function alone(number) {  // one column beside what is given; 0, or the same number again: all of them
    if (number > Number(page.shown)) return;
    const wide = number > 0 && !document.querySelector(`.chosen[data-column="${number}"]`);
    document.body.classList.toggle("alone", wide);
    for (const cell of document.querySelectorAll("[data-column]"))
      cell.classList.toggle("chosen", wide && Number(cell.dataset.column) === number);
    samples[current].scrollIntoView({ block: "start" });
  }

  function tick(now) {
    const wait = 1000 / (fps * Number(speed.value));
    if (playing && now >= due) {
      show(frame + 1);
      due = Math.max(due + wait, now);  // after a pause of the tab: go on, do not race
    }
    requestAnimationFrame(tick);
  }

  const keys = {
    " ": () => toggle(),
    ArrowLeft: () => step(-1), ArrowRight: () => step(1), Home: () => step(-frame), End: () => step(frames - 1 - frame),
    ArrowUp: () => go(current - 1), ArrowDown: () => go(current + 1),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.tagName === "SELECT") return;
    const action = /^[0-9]$/.test(event.key) ? () => alone(Number(event.key)) : keys[event.key];
    if (!action) return;
    event.preventDefault();
    if (document.activeElement !== document.body) document.activeElement.blur();  // or a button hears the space too
    action();
  });
  play.addEventListener("click", () => toggle());
  slider.addEventListener("input", () => step(Number(slider.value) - frame));
  samples.forEach((sample, n) => sample.addEventListener("click", () => mark(n)));

  mark(0);
  show(0);
  toggle(!matchMedia("(prefers-reduced-motion: reduce)").matches);
  requestAnimationFrame(tick);
})();
