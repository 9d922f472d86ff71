// What was made: a card for each task, the newest first.
import { address } from "./service.js";
import { $, attempt } from "./elements.js";
import { look, older, over, tasks, title, watch } from "./tasks.js";
import { compare } from "./stage.js";

const cards = new Map(); // by the task's id
const chosen = new Set(); // ids to be compared

export function begin() {
  watch((task, what) => {
    if (what === "look") return mark(task.id);
    if (what === "gone") {
      cards.get(task.id).remove();
      cards.delete(task.id);
      choose(task.id, false);
      return;
    }
    if (!cards.has(task.id)) place(task, what);
    draw(task);
  });
  $("older").addEventListener("click", more);
  $("compare").addEventListener("click", () => {
    mark(null);
    attempt(() => compare([...chosen].map((id) => tasks.get(id))));
  });
}

export async function more() {
  $("older").hidden = !(await older());
}

function mark(id) {
  for (const [other, card] of cards) card.querySelector(".open").setAttribute("aria-current", other === id);
}

function place(task, what) {
  const card = $("card").content.firstElementChild.cloneNode(true);
  cards.set(task.id, card);
  card.querySelector(".open").addEventListener("click", () => look(task));
  card.querySelector("input").addEventListener("change", (event) => choose(task.id, event.target.checked));
  if (what === "new") $("gallery").prepend(card);
  else $("gallery").append(card);
}

function choose(id, on) {
  if (on) chosen.add(id);
  else chosen.delete(id);
  $("compare").hidden = chosen.size < 2;
  $("compare").textContent = `Compare ${chosen.size}`;
}

async function draw(task) {
  const card = cards.get(task.id);
  const state = task.error ?? task.status.toLowerCase().replace("_", " ");
  card.querySelector(".name").textContent = title(task);
  card.querySelector(".note").textContent = task.status === "SUCCEEDED" ? `${task.pipeline} · seed ${task.seed}` : state;
  card.querySelector("label span").textContent = `Compare ${title(task)}, seed ${task.seed}`;
  card.querySelector("label").hidden = !task.files["model.glb"];
  const bar = card.querySelector("progress");
  bar.value = task.progress;
  bar.hidden = over(task);
  const picture = card.querySelector("img");
  if (task.files["thumbnail.png"] && !picture.src) picture.src = await address(task.files["thumbnail.png"]);
}
