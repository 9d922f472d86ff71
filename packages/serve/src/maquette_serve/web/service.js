// Talks with the service: every request of the page goes through here.

export class Refused extends Error {}

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
    throw new Refused(said.message ?? `the service answered ${answer.status}`);
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

// Events of a task until it is over; a stream that breaks off is taken up where it was.
export async function* events(id) {
  for (let last = "", over = false; !over; ) {
    const more = last ? { "last-event-id": last } : {};
    const answer = await ask(`/v1/tasks/${id}/events`, { headers: more });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; ; ) {
      const { value, done } = await reader.read().catch(() => ({ done: true }));
      if (done) break;
      const blocks = (rest + value.replaceAll("\r", "")).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s, 2)));
        if (!fields.data) continue;
        last = fields.id ?? last;
        const state = JSON.parse(fields.data);
        over = fields.event === "error" || ["SUCCEEDED", "FAILED", "CANCELED"].includes(state.status);
        yield state;
      }
    }
    if (!over) await new Promise((resume) => setTimeout(resume, 1000));
  }
}
