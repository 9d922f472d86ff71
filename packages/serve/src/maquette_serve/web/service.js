// Talks with the service: every request of the page goes through here.

export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

let key = localStorage.getItem("key") ?? "";

export function useKey(text) {
  key = text.trim();
  localStorage.setItem("key", key);
}

function headers(more = {}) {
  return key ? { ...more, authorization: `Bearer ${key}` } : more;
}

export async function ask(path, options = {}) {
  const answer = await fetch(path, { ...options, headers: headers(options.headers) });
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({}));
    throw new Refused(said.message ?? `the service answered ${answer.status}`, answer.status);
  }
  return answer;
}

export async function read(path) {
  return (await ask(path)).json();
}

export async function make(body) {
  const options = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  return (await ask("/v1/tasks", options)).json();
}

export async function upload(file) {
  const body = new FormData();
  body.append("file", file);
  return (await (await ask("/v1/uploads", { method: "POST", body })).json()).id;
}

// A file as an address that elements can use: they cannot send the key themselves.
export async function address(path) {
  return URL.createObjectURL(await (await ask(path)).blob());
}

// Events of a task until it is over; a stream that breaks off is taken up where it was, also where the service is away.
export async function* events(id) {
  for (let last = "", over = false; !over; ) {
    const more = last ? { "last-event-id": last } : {};
    const answer = await ask(`/v1/tasks/${id}/events`, { headers: more }).catch(unlessRefused);
    for await (const fields of answer ? told(answer.body) : []) {
      last = fields.id ?? last;
      const state = JSON.parse(fields.data);
      if (fields.event === "error") throw new Refused(state.message, state.status_code);
      over = ["SUCCEEDED", "FAILED", "CANCELED"].includes(state.status);
      yield state;
    }
    if (!over) await new Promise((resume) => setTimeout(resume, 1000));
  }
}

// What is no answer, or one of whoever stands before a service that is away, may be another one later.
function unlessRefused(error) {
  if (error instanceof Refused && error.status < 500) throw error;
}

// Fields of the events of a stream, until it ends or breaks off.
async function* told(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ; ) {
    const { value, done } = await reader.read().catch(() => ({ done: true }));
    if (done) return;
    const blocks = (rest + value.replaceAll("\r", "")).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s, 2)));
      if (fields.data) yield fields;
    }
  }
}
