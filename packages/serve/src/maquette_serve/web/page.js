// The page: an order form, the model that is looked at, and a history.
import { read, Refused, upload, useKey } from "./service.js";
import { $, attempt, element } from "./elements.js";
import { look, order, over, pipelines, player, tasks, title, watch } from "./tasks.js";
import * as gallery from "./gallery.js";
import * as stage from "./stage.js";

const THEN = ["texture", "rig", "animate"]; // what can follow in the same task, in this order

function number(id) {
  return $(id).value === "" ? undefined : Number($(id).value);
}

// Roles of what is ticked. A clip wants a skeleton: of a mesh that is sent only its sender knows whether it has one.
function following(file) {
  const wanted = THEN.filter((role) => $(`then-${role}`)?.checked);
  const chosen = pipelines.find((one) => one.name === $("pipeline").value);
  const rigged = file || wanted.includes("rig") || chosen.roles.includes("rig") || !player("rig");
  return wanted.flatMap((role) => (role === "animate" && !rigged ? ["rig", role] : [role]));
}

async function ordered() {
  const images = await Promise.all([...$("image").files].map(upload));
  const file = $("mesh").files[0];
  const then = following(file).map((role) => ({
    pipeline: player(role),
    options: role === "animate" ? { clip: "walk" } : {},
  }));
  return {
    pipeline: $("pipeline").value,
    prompt: $("prompt").value.trim(),
    seed: number("seed"),
    guidance: number("guidance"),
    steps: number("steps"),
    formats: $("formats").value.split(",").map((name) => name.trim().toLowerCase()).filter(Boolean),
    images: images.length ? images : undefined,
    mesh: file ? await upload(file) : undefined,
    options: $("options").value.trim() ? JSON.parse($("options").value) : undefined,
    then,
  };
}

async function sent(event) {
  event.preventDefault();
  $("make").disabled = true;
  await attempt(async () => {
    const body = await ordered();
    for (let place = 0; place < Number($("count").value); place++) {
      const seed = body.seed === undefined ? undefined : body.seed + place;
      const task = await order({ ...body, seed });
      if (place === 0) look(task);
    }
  });
  $("make").disabled = false;
}

function offer() {
  const option = (one) => element("option", { value: one.name, textContent: one.name, title: one.about });
  const group = (label, some) => (some.length ? [element("optgroup", { label }, ...some.map(option))] : []);
  const [making, changing] = [false, true].map((needs) => pipelines.filter((one) => one.needs_mesh === needs));
  $("pipeline").replaceChildren(...group("Make", making), ...group("Change a mesh", changing));
  const boxes = THEN.filter(player).map((role) =>
    element("label", {}, element("input", { type: "checkbox", id: `then-${role}` }), ` ${role}`),
  );
  $("then").hidden = boxes.length === 0;
  $("then-choices").replaceChildren(...boxes);
}

async function begin() {
  try {
    pipelines.splice(0, pipelines.length, ...(await read("/v1/pipelines")));
    offer();
    $("state").textContent = `${pipelines.length} pipelines`;
    await stage.begin();
    if (!tasks.size) await gallery.more();
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
$("order").addEventListener("submit", sent);
$("theme").addEventListener("click", turn);
$("next-cancel").addEventListener("click", () => $("next-dialog").close());
$("key").addEventListener("change", () => { useKey($("key").value); begin(); });
watch((task, what) => {
  if (what === "changed" && over(task)) $("state").textContent = `${title(task)}: ${task.status.toLowerCase()}`;
});
gallery.begin();
begin();
