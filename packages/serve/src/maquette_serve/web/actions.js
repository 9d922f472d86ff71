// What can be done with a mesh that is there: a button for each, and a dialog that knows what it needs.
import { $, attempt, button, choice, element, field } from "./elements.js";
import { look, order, pipelines, player, title, went } from "./tasks.js";

const CLIPS = ["walk", "run", "idle", "wave", "jump", "sit", "swim"];

function words(value) {
  return element("textarea", { name: "prompt", rows: 2, maxLength: 1000, value });
}

function number(name, value, more = {}) {
  return element("input", { name, type: "number", value, min: 0, ...more });
}

// By role: how it is called, what is asked, and the request that follows from the answers.
const ACTIONS = {
  texture: {
    label: (task) => (went(task, "texture") ? "Retexture" : "Texture"),
    fields: (task) => [...field("What it shall look like", words(task.request.prompt ?? "")), ...field("Seed", number("seed", ""))],
    request: ({ prompt, seed }) => ({ prompt, seed: seed === "" ? undefined : Number(seed) }),
  },
  rig: { label: () => "Rig", fields: () => [], request: () => ({}) },
  animate: {
    label: () => "Animate",
    fields: () => field("Clip", choice("clip", CLIPS, "walk")),
    request: ({ clip, pipeline }, task) => onRig(task, { pipeline: pipeline ?? player("animate"), options: { clip } }),
  },
  remesh: {
    label: () => "Remesh",
    fields: () => [
      ...field("Faces", number("faces", 3000, { min: 100, max: 300000 })),
      ...field("Topology", choice("topology", ["triangle", "quad"])),
    ],
    request: ({ faces, topology }) => ({ options: { faces: Number(faces), topology } }),
  },
  edit: {
    label: () => "Edit",
    fields: () => [
      ...field("What it shall be", words("")),
      ...field("Where (empty: everywhere, a little)", element("input", { name: "region", maxLength: 200 })),
    ],
    request: ({ prompt, region }) => ({ prompt, options: region.trim() ? { region: region.trim() } : { variation: 0.4 } }),
  },
};

// A mesh without a skeleton gets one first, in the same task.
function onRig(task, request) {
  const rig = player("rig");
  if (went(task, "rig") || !rig) return request;
  return { pipeline: rig, then: [request] };
}

export function followUps(task) {
  const roles = Object.keys(ACTIONS).filter(player);
  return roles.map((role) => button(ACTIONS[role].label(task), () => open(role, task), { className: "action" }));
}

function open(role, task) {
  const action = ACTIONS[role];
  const players = pipelines.filter((one) => one.roles.includes(role)).map((one) => one.name);
  const who = players.length > 1 ? field("Make with", choice("pipeline", players)) : [];
  $("next-title").textContent = `${action.label(task)}: ${title(task)}`;
  $("next-fields").replaceChildren(...action.fields(task), ...who);
  $("next").onsubmit = () => attempt(() => send(role, task));
  $("next-dialog").showModal();
}

async function send(role, task) {
  const answers = Object.fromEntries(new FormData($("next")));
  const made = { prompt: task.request.prompt, pipeline: answers.pipeline ?? player(role) };
  look(await order({ ...made, ...ACTIONS[role].request(answers, task), mesh: task.id }));
}
