// The model that is looked at, or several beside one another, and what can be done with it.
import { address, read } from "./service.js";
import { $, attempt, button, choice, element } from "./elements.js";
import { cancel, finished, forget, history, look, order, over, parent, player, title, watch } from "./tasks.js";
import { followUps } from "./actions.js";

const GROUND = { steps: [{ name: "origin", at: "bottom" }] }; // as other files are made elsewhere, too
let shown = []; // tasks in the viewer
let formats = [];

watch((task, what) => {
  if (what === "look") attempt(() => show(task));
  else if (!shown.includes(task)) return;
  else if (what === "gone") clear();
  else if (shown.length === 1) attempt(() => (over(task) ? show(task) : about(task)));
});

export async function begin() {
  formats = (await read("/v1/formats")).meshes_written;
}

async function show(task) {
  shown = [task];
  about(task);
  if (!task.files["model.glb"]) {
    const said = task.error ?? (over(task) ? "It made no model.glb." : "It is being made.");
    $("viewer").replaceChildren(element("p", { className: "hint", textContent: said }));
    return;
  }
  const viewer = await viewerOf(task);
  if (shown.length === 1 && shown[0] === task) $("viewer").replaceChildren(viewer);
}

// Several beside one another: seeds of one prompt, or steps of one mesh.
export async function compare(some) {
  shown = some;
  const figures = some.map(async (task) => {
    const words = `${title(task)} · ${task.pipeline} · seed ${task.seed}`;
    return element("figure", {}, await viewerOf(task), element("figcaption", { textContent: words }));
  });
  $("viewer").replaceChildren(element("div", { className: "beside" }, ...(await Promise.all(figures))));
  $("about").replaceChildren();
  $("chain").replaceChildren();
  $("stage").scrollIntoView({ block: "nearest" });
}

async function viewerOf(task) {
  const words = `${title(task)}, ${task.pipeline}, seed ${task.seed}`;
  const viewer = element("model-viewer", { src: await address(task.files["model.glb"]), alt: words, autoplay: true });
  for (const name of ["camera-controls", "interaction-prompt"]) viewer.setAttribute(name, "none");
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) viewer.setAttribute("auto-rotate", "");
  // White models would not stand out from a light ground at full exposure.
  viewer.setAttribute("exposure", "0.7");
  viewer.setAttribute("shadow-intensity", "1");
  return viewer;
}

function clear() {
  shown = [];
  for (const id of ["viewer", "about", "chain"]) $(id).replaceChildren();
}

function about(task) {
  let line = `${title(task)} · ${task.pipeline} · seed ${task.seed}`;
  if (task.faces) line += ` · ${task.faces} faces`;
  const parts = [element("p", { textContent: line })];
  for (const [name, path] of Object.entries(task.files)) parts.push(button(name, () => save(path, name), { className: "file" }));
  if (task.files["model.glb"]) parts.push(...converting(task), ...followUps(task));
  if (!task.request.mesh) parts.push(button("Another seed", () => again(task)));
  const ended = over(task);
  parts.push(button(ended ? "Delete" : "Cancel", () => (ended ? forget(task) : cancel(task))));
  $("about").replaceChildren(...parts);
  chain(task);
}

// Where the mesh came from, step by step; each that is known here can be looked at.
function chain(task) {
  const line = [];
  for (let one = task; one; one = parent(one)) line.unshift(one);
  const steps = line.map((one) => {
    const words = [one.pipeline, ...(one.request.then ?? []).map((work) => work.pipeline)].join(" → ");
    const made = button(words, () => look(one));
    if (one === task) made.setAttribute("aria-current", "step");
    return element("li", {}, made);
  });
  $("chain").replaceChildren(...(history(task).length > 1 ? steps : []));
}

function converting(task) {
  const others = formats.filter((name) => !task.files[`model.${name}`]);
  const list = choice("format", others);
  list.setAttribute("aria-label", "Another format");
  return player("finish") ? [list, button("Download as", () => converted(task, list.value))] : [];
}

async function converted(task, format) {
  $("state").textContent = `${title(task)}: writing ${format}`;
  const body = { pipeline: player("finish"), mesh: task.id, formats: [format], options: GROUND, prompt: title(task) };
  const made = await finished(await order(body));
  if (made.status !== "SUCCEEDED") throw new Error(made.error ?? "it was cancelled");
  await save(made.files[`model.${format}`], `model.${format}`);
}

async function save(path, name) {
  element("a", { href: await address(path), download: name }).click();
}

async function again(task) {
  const { seed, ...request } = task.request;
  look(await order(request));
}
