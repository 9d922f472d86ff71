// The page: an order form, the model that is looked at, and a history.
import { address, ask, events, make, read, Refused, upload, useKey } from "./service.js";

const $ = (id) => document.getElementById(id);
const PAGE = 24;
const tasks = new Map(); // id -> { task, card }
let pipelines = [];
let source = null; // a task whose mesh the next one starts from
let shown = null; // the task in the viewer
let pages = 0;

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function title(task) {
  return task.request.prompt || task.pipeline;
}

function number(id) {
  return $(id).value === "" ? undefined : Number($(id).value);
}

async function ordered() {
  const images = await Promise.all([...$("image").files].map(upload));
  const file = $("mesh").files[0];
  const body = {
    pipeline: $("pipeline").value,
    prompt: $("prompt").value.trim(),
    seed: number("seed"),
    guidance: number("guidance"),
    steps: number("steps"),
    formats: $("formats").value.split(",").map((name) => name.trim().toLowerCase()).filter(Boolean),
    images: images.length ? images : undefined,
    mesh: file ? await upload(file) : source?.id,
  };
  if ($("options").value.trim()) body.options = JSON.parse($("options").value);
  return body;
}

async function order(event) {
  event.preventDefault();
  $("problem").textContent = "";
  $("make").disabled = true;
  try {
    const body = await ordered();
    for (let place = 0; place < Number($("count").value); place++) {
      const seed = body.seed === undefined ? undefined : body.seed + place;
      const task = await make({ ...body, seed });
      add(task, true);
      if (place === 0) show(task.id);
    }
  } catch (error) {
    $("problem").textContent = error instanceof SyntaxError ? `Options: ${error.message}` : error.message;
  } finally {
    $("make").disabled = false;
  }
}

function add(task, first) {
  if (tasks.has(task.id)) return;
  const card = $("card").content.firstElementChild.cloneNode(true);
  tasks.set(task.id, { task, card });
  card.querySelector(".open").addEventListener("click", () => show(task.id));
  first ? $("gallery").prepend(card) : $("gallery").append(card);
  draw(task.id);
  if (!task.finished_at) follow(task.id);
}

async function draw(id) {
  const { task, card } = tasks.get(id);
  const over = Boolean(task.finished_at);
  card.querySelector(".name").textContent = title(task);
  card.querySelector(".note").textContent =
    task.status === "SUCCEEDED" ? `seed ${task.seed}` : (task.error ?? task.status.toLowerCase().replace("_", " "));
  const bar = card.querySelector("progress");
  bar.value = task.progress;
  bar.hidden = over;
  const picture = card.querySelector("img");
  if (task.files["thumbnail.png"] && !picture.src) picture.src = await address(task.files["thumbnail.png"]);
}

async function follow(id) {
  const entry = tasks.get(id);
  try {
    for await (const state of events(id)) {
      if (!tasks.has(id)) return;
      Object.assign(entry.task, state);
      draw(id);
      if (shown === id) about(entry.task);
      if (state.finished_at) $("state").textContent = `${title(entry.task)}: ${state.status.toLowerCase()}`;
    }
    if (shown === id) show(id);
  } catch (error) {
    $("problem").textContent = error.message;
  }
}

async function show(id) {
  const { task } = tasks.get(id);
  shown = id;
  for (const [other, { card }] of tasks) card.querySelector(".open").setAttribute("aria-current", other === id);
  about(task);
  const file = task.files["model.glb"];
  if (!file) {
    const said = task.error ?? (task.finished_at ? "It made no model.glb." : "It is being made.");
    $("viewer").replaceChildren(element("p", { className: "hint", textContent: said }));
    return;
  }
  const viewer = element("model-viewer", { src: await address(file), alt: title(task), autoplay: true });
  for (const name of ["camera-controls", "auto-rotate", "interaction-prompt"]) viewer.setAttribute(name, "none");
  viewer.setAttribute("shadow-intensity", "0.8");
  if (shown === id) $("viewer").replaceChildren(viewer);
}

function about(task) {
  const lines = [`${title(task)} · ${task.pipeline} · seed ${task.seed}`];
  if (task.faces) lines[0] += ` · ${task.faces} faces`;
  const parts = [element("p", { textContent: lines[0] })];
  for (const [name, path] of Object.entries(task.files)) {
    const link = element("a", { href: "#", textContent: name });
    link.addEventListener("click", (event) => save(event, path, name));
    parts.push(link);
  }
  if (task.files["model.glb"]) {
    parts.push(button("Start from this", () => startFrom(task)));
    parts.push(button("Another seed", () => again(task)));
  }
  const over = Boolean(task.finished_at);
  parts.push(button(over ? "Delete" : "Cancel", () => (over ? forget(task) : cancel(task))));
  $("about").replaceChildren(...parts);
}

function button(text, work) {
  const made = element("button", { type: "button", textContent: text });
  made.addEventListener("click", () => Promise.resolve(work()).catch((error) => ($("problem").textContent = error.message)));
  return made;
}

async function save(event, path, name) {
  event.preventDefault();
  element("a", { href: await address(path), download: name }).click();
}

function startFrom(task) {
  source = task;
  $("source").hidden = task === null;
  $("source").firstElementChild.textContent = task ? `Starts from: ${title(task)}` : "";
  if (task) $("pipeline").focus();
}

async function again(task) {
  const { seed, ...request } = task.request;
  const made = await make(request);
  add(made, true);
  show(made.id);
}

async function cancel(task) {
  Object.assign(task, await (await ask(`/v1/tasks/${task.id}/cancel`, { method: "POST" })).json());
  draw(task.id);
  about(task);
}

async function forget(task) {
  await ask(`/v1/tasks/${task.id}`, { method: "DELETE" });
  tasks.get(task.id).card.remove();
  tasks.delete(task.id);
  $("viewer").replaceChildren();
  $("about").replaceChildren();
}

async function older() {
  const found = await read(`/v1/tasks?page=${pages + 1}&size=${PAGE}`);
  pages += 1;
  for (const task of found) add(task, false);
  $("older").hidden = found.length < PAGE;
}

async function begin() {
  try {
    pipelines = await read("/v1/pipelines");
    $("pipeline").replaceChildren(
      ...pipelines.map((one) => element("option", { value: one.name, textContent: one.name, title: one.about })),
    );
    $("state").textContent = `${pipelines.length} pipelines`;
    if (!pages) await older();
  } catch (error) {
    $("state").textContent = error instanceof Refused ? error.message : "the service does not answer";
  }
}

function turn() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
  theme(now === "dark" ? "light" : "dark");
}

function theme(name) {
  document.documentElement.dataset.theme = name;
  localStorage.setItem("theme", name);
}

if (localStorage.getItem("theme")) theme(localStorage.getItem("theme"));
$("key").value = localStorage.getItem("key") ?? "";
$("order").addEventListener("submit", order);
$("theme").addEventListener("click", turn);
$("drop").addEventListener("click", () => startFrom(null));
$("older").addEventListener("click", older);
$("key").addEventListener("change", () => { useKey($("key").value); begin(); });
begin();
