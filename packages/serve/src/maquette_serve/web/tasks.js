// The tasks that this page knows, and what happens to them.
import { attempt } from "./elements.js";
import { ask, events, make, read } from "./service.js";

const PAGE = 24;
export const tasks = new Map(); // by id
export const pipelines = []; // what can be asked for
let watchers = [];
let pages = 0; // of the history

// Calls back with a task whenever something is known of it: "new", "old" (from the history), "changed" or "gone"; and
// with "look" when it is to be looked at. What it gives ends that.
export function watch(called) {
  watchers.push(called);
  return () => {
    watchers = watchers.filter((other) => other !== called);
  };
}

function tell(task, what) {
  for (const called of watchers) called(task, what);
}

export function look(task) {
  tell(task, "look");
}

export function title(task) {
  return task.request.prompt || task.pipeline;
}

export function over(task) {
  return ["SUCCEEDED", "FAILED", "CANCELED"].includes(task.status);
}

// Who plays a role, the first where several do.
export function player(role) {
  return pipelines.find((one) => one.roles.includes(role))?.name;
}

// The task whose mesh a task began with, if it is known here.
export function parent(task) {
  return tasks.get(task.request.mesh);
}

// Names of the pipelines that a task's mesh went through, those of its parents too.
export function history(task) {
  const before = parent(task);
  const own = [task.pipeline, ...(task.request.then ?? []).map((work) => work.pipeline)];
  return before ? [...history(before), ...own] : own;
}

export function went(task, role) {
  const players = pipelines.filter((one) => one.roles.includes(role)).map((one) => one.name);
  return history(task).some((name) => players.includes(name));
}

export async function order(body) {
  const task = await make(body);
  add(task, "new");
  return task;
}

function add(task, what) {
  if (tasks.has(task.id)) return;
  tasks.set(task.id, task);
  tell(task, what);
  if (!over(task)) attempt(() => follow(task));
}

async function follow(task) {
  try {
    for await (const state of events(task.id)) {
      if (!tasks.has(task.id)) return;
      Object.assign(task, state);
      tell(task, "changed");
    }
  } catch (error) {
    if (error.status !== 404) throw error;
    gone(task);
  }
}

export async function older() {
  const found = await read(`/v1/tasks?page=${pages + 1}&size=${PAGE}`);
  pages += 1;
  for (const task of found) add(task, "old");
  return found.length === PAGE;
}

export async function cancel(task) {
  Object.assign(task, await (await ask(`/v1/tasks/${task.id}/cancel`, { method: "POST" })).json());
  tell(task, "changed");
}

export async function forget(task) {
  await ask(`/v1/tasks/${task.id}`, { method: "DELETE" });
  gone(task);
}

function gone(task) {
  if (tasks.delete(task.id)) tell(task, "gone");
}

// A task once it is over, or gone.
export function finished(task) {
  if (over(task)) return Promise.resolve(task);
  return new Promise((resolve) => {
    const end = watch((other, what) => {
      if (other.id !== task.id || !(over(other) || what === "gone")) return;
      end();
      resolve(other);
    });
  });
}
