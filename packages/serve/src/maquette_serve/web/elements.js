// Making elements, and saying what went wrong.
export const $ = (id) => document.getElementById(id);

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// A button whose work may fail; what went wrong is said where the page says such things.
export function button(text, work, more = {}) {
  const made = element("button", { type: "button", textContent: text, ...more });
  made.addEventListener("click", () => attempt(work));
  return made;
}

export async function attempt(work) {
  $("problem").textContent = "";
  try {
    return await work();
  } catch (error) {
    $("problem").textContent = error instanceof SyntaxError ? `Options: ${error.message}` : error.message;
  }
}

export function field(label, control) {
  control.id ||= `field-${control.name}`;
  return [element("label", { htmlFor: control.id, textContent: label }), control];
}

export function choice(name, values, chosen) {
  const options = values.map((value) => element("option", { value, textContent: value, selected: value === chosen }));
  return element("select", { name }, ...options);
}
