"use strict";
// The page of a folder of shards. Texts come from strangers' files: they are only ever set as textContent.
const index = JSON.parse(document.getElementById("index").textContent);
const byId = (id) => document.getElementById(id);
const LINEAR = Float32Array.from({ length: 256 }, (_, i) => {
  const x = i / 255;
  return x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4;
});
const TYPES = { uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array, uint32: Uint32Array, int32: Int32Array, float32: Float32Array };
const PARTS = [[47, 111, 222], [217, 154, 43], [64, 160, 110], [200, 70, 90], [140, 100, 200], [90, 170, 200], [150, 150, 150], [210, 120, 170]];

function element(tag, text, attributes) {
  const made = Object.assign(document.createElement(tag), attributes || {});
  if (text !== undefined && text !== null) made.textContent = text;
  return made;
}

// ---- A sample's bytes ----

async function fetched(entry) {
  if (index.live) {
    const answer = await fetch("sample?number=" + entry.number);
    if (!answer.ok) throw new Error(await answer.text());
    return new Uint8Array(await answer.arrayBuffer());
  }
  const text = atob(byId("sample-" + entry.place).textContent);
  return Uint8Array.from(text, (letter) => letter.charCodeAt(0));
}

async function unpacked(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  const length = new DataView(buffer).getUint32(0, true);
  const sample = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  for (const [name, about] of Object.entries(sample.arrays)) {
    const count = about.shape.reduce((a, b) => a * b, 1);
    sample.arrays[name] = new TYPES[about.type](buffer, 4 + length + about.place, count);
    sample.arrays[name].shape = about.shape;
  }
  return sample;
}

// ---- The 3D view ----

const stage = byId("stage");
let view = null;

function opened() {
  const renderer = new THREE.WebGLRenderer({ antialias: true, alpha: true });
  renderer.setPixelRatio(Math.min(window.devicePixelRatio, 2));
  stage.prepend(renderer.domElement);
  const scene = new THREE.Scene(), camera = new THREE.PerspectiveCamera(32, 1, 0.01, 20);
  camera.position.set(0.95, 0.65, 1.5).multiplyScalar(1.25);
  scene.add(new THREE.HemisphereLight(0xf4f7ff, 0x8d8578, 1.7));
  for (const [x, y, z, strength] of [[-1, 1.6, 1.6, 1.9], [1.8, 0.4, 0.6, 0.5], [0, 1, -2, 0.6]]) {
    const lamp = new THREE.DirectionalLight(0xffffff, strength);
    lamp.position.set(x, y, z);
    scene.add(lamp);
  }
  const cube = new THREE.Box3Helper(new THREE.Box3(new THREE.Vector3(-0.5, -0.5, -0.5), new THREE.Vector3(0.5, 0.5, 0.5)), 0x8a93a6);
  cube.material.transparent = true;
  cube.material.opacity = 0.35;
  scene.add(cube);
  const controls = new THREE.OrbitControls(camera, renderer.domElement);
  const draw = () => renderer.render(scene, camera);
  controls.addEventListener("change", draw);
  const fit = () => {
    const { clientWidth: width, clientHeight: height } = stage;
    renderer.setSize(width, height, false);
    renderer.domElement.style.width = width + "px";
    renderer.domElement.style.height = height + "px";
    camera.aspect = width / height;
    camera.updateProjectionMatrix();
    draw();
  };
  new ResizeObserver(fit).observe(stage);
  fit();
  return { scene, draw, shown: new THREE.Group(), cube };
}

function lit(bytes) {
  return new THREE.BufferAttribute(Float32Array.from(bytes, (value) => LINEAR[value]), 3);
}

function placed(values) {
  return new THREE.BufferAttribute(Float32Array.from(values, (value) => value / 65535 - 0.5), 3);
}

function meshLayer(arrays) {
  const geometry = new THREE.BufferGeometry();
  geometry.setAttribute("position", placed(arrays.mesh));
  geometry.setIndex(new THREE.BufferAttribute(arrays.mesh_faces, 1));
  if (arrays.mesh_colors) geometry.setAttribute("color", lit(arrays.mesh_colors));
  geometry.computeVertexNormals();
  const colors = Boolean(arrays.mesh_colors);
  const material = new THREE.MeshStandardMaterial({ vertexColors: colors, color: colors ? 0xffffff : 0x9ea6b0, roughness: 0.65, side: THREE.DoubleSide });
  return new THREE.Mesh(geometry, material);
}

const directions = (values) => Uint8Array.from(values, (value) => Math.round(value + 127));
const labels = (values) => Uint8Array.from({ length: values.length * 3 }, (_, i) => PARTS[values[Math.floor(i / 3)] % PARTS.length][i % 3]);

function distances(values) {
  const sorted = Float32Array.from(values, Math.abs).sort(), most = sorted[Math.floor(sorted.length * 0.9)] || 1;
  const out = new Uint8Array(values.length * 3);
  values.forEach((value, i) => out.set(palette(value / most, 150), 3 * i));
  return out;
}

// Blue inside, orange outside, white (or another grey) on the surface.
function palette(value, middle = 248) {
  const t = Math.min(Math.abs(value), 1), end = value < 0 ? [33, 102, 196] : [214, 118, 34];
  return end.map((channel) => Math.round(middle + (channel - middle) * Math.sqrt(t)));
}

function pointLayer(places, colors) {
  const geometry = new THREE.BufferGeometry();
  geometry.setAttribute("position", placed(places));
  if (colors) geometry.setAttribute("color", lit(colors));
  const size = Math.min(Math.max(0.8 / Math.sqrt(places.length / 3), 0.008), 0.02);
  return new THREE.Points(geometry, new THREE.PointsMaterial({ size, vertexColors: Boolean(colors), color: colors ? 0xffffff : 0x2f6fde }));
}

function voxelLayer(cells, resolution, colors) {
  const count = cells.length / 3, box = new THREE.BoxGeometry(0.94 / resolution, 0.94 / resolution, 0.94 / resolution);
  const layer = new THREE.InstancedMesh(box, new THREE.MeshStandardMaterial({ roughness: 0.8 }), count);
  const matrix = new THREE.Matrix4(), color = new THREE.Color();
  for (let i = 0; i < count; i++) {
    matrix.makeTranslation(...[0, 1, 2].map((axis) => (cells[3 * i + axis] + 0.5) / resolution - 0.5));
    layer.setMatrixAt(i, matrix);
    const rgb = colors ? [0, 1, 2].map((c) => LINEAR[colors[3 * i + c]]) : [0.28, 0.42, 0.62];
    layer.setColorAt(i, color.setRGB(...rgb));
  }
  return layer;
}

function boneLayer(joints, parents) {
  const ends = [];
  parents.forEach((parent, joint) => {
    if (parent >= 0) ends.push(...joints.slice(3 * joint, 3 * joint + 3), ...joints.slice(3 * parent, 3 * parent + 3));
  });
  const lines = new THREE.BufferGeometry(), dots = new THREE.BufferGeometry(), group = new THREE.Group();
  lines.setAttribute("position", new THREE.BufferAttribute(new Float32Array(ends), 3));
  dots.setAttribute("position", new THREE.BufferAttribute(new Float32Array(joints), 3));
  group.add(new THREE.LineSegments(lines, new THREE.LineBasicMaterial({ color: 0xd1495b, depthTest: false })));
  group.add(new THREE.Points(dots, new THREE.PointsMaterial({ color: 0xd1495b, size: 0.025, depthTest: false })));
  return group;
}

// name -> {by: makes}: what can be shown of a sample, and the ways to colour it.
function layersOf(arrays) {
  const layers = {};
  if (arrays.mesh) layers.mesh = { "": () => meshLayer(arrays) };
  if (arrays.surface) {
    const ways = layers["surface points"] = {};
    if (arrays.normals) ways.normal = () => pointLayer(arrays.surface, directions(arrays.normals));
    if (arrays.surface_color) ways.color = () => pointLayer(arrays.surface, arrays.surface_color);
    if (arrays.surface_part) ways.part = () => pointLayer(arrays.surface, labels(arrays.surface_part));
    if (!Object.keys(ways).length) ways[""] = () => pointLayer(arrays.surface);
  }
  if (arrays.sharp) layers["sharp points"] = { "": () => pointLayer(arrays.sharp, arrays.sharp_normals && directions(arrays.sharp_normals)) };
  for (const name of ["near", "volume"]) {
    const sdf = arrays[name + "_sdf"];
    if (arrays[name]) layers[name + " points"] = { "": () => pointLayer(arrays[name], sdf && distances(sdf)) };
  }
  if (arrays.voxels) layers.voxels = { "": () => voxelLayer(arrays.voxels, arrays.voxels_resolution[0], arrays.voxel_color) };
  if (arrays.dual_voxels) layers["dual voxels"] = { "": () => voxelLayer(arrays.dual_voxels, arrays.dual_voxels_resolution[0]) };
  if (arrays.dual_points) layers["dual points"] = { "": () => pointLayer(arrays.dual_points) };
  if (arrays.joints) layers.skeleton = { "": () => boneLayer(arrays.joints, arrays.joint_parents) };
  return layers;
}

const wanted = new Set();
const ways = {};

function freed(object) {
  object.traverse((part) => {
    if (part.geometry) part.geometry.dispose();
    if (part.material) part.material.dispose();
  });
}

function showLayers(sample) {
  const panel = byId("layers"), layers = layersOf(sample.arrays), names = Object.keys(layers);
  panel.replaceChildren();
  view.scene.remove(view.shown);
  freed(view.shown);
  view.scene.add((view.shown = new THREE.Group()));
  if (!names.some((name) => wanted.has(name)) && names.length) wanted.add(names[0]);
  for (const name of names) {
    const row = element("div"), label = element("label"), box = element("input", null, { type: "checkbox", checked: wanted.has(name) });
    let layer = null;
    const update = () => {
      if (layer) { view.shown.remove(layer); freed(layer); layer = null; }
      if (box.checked) {
        wanted.add(name);
        layer = (layers[name][ways[name]] || Object.values(layers[name])[0])();
        view.shown.add(layer);
      } else wanted.delete(name);
      view.draw();
    };
    box.addEventListener("change", update);
    label.append(box, name);
    row.append(label);
    panel.append(row);
    if (Object.keys(layers[name]).length > 1) {
      const choice = element("select", null, { ariaLabel: "colour " + name + " by" });
      for (const way of Object.keys(layers[name])) choice.append(element("option", way, { selected: way === ways[name] }));
      choice.addEventListener("change", () => { ways[name] = choice.value; box.checked = true; update(); });
      row.append(choice);
    }
    update();
  }
}

// ---- Slices, pictures and facts ----

function showSlices(field) {
  byId("slices").hidden = !field;
  byId("planes").replaceChildren();
  if (!field) return;
  const size = field.shape[0];
  const at = { x: (n, i, j) => [n, size - 1 - j, i], y: (n, i, j) => [i, n, j], z: (n, i, j) => [i, size - 1 - j, n] };
  for (const axis of ["x", "y", "z"]) {
    const canvas = element("canvas", null, { width: size, height: size }), context = canvas.getContext("2d");
    const slider = element("input", null, { type: "range", min: 0, max: size - 1, value: size >> 1, ariaLabel: "cut along " + axis });
    const words = element("figcaption", null, { className: "quiet" }), figure = element("figure");
    const draw = () => {
      const picture = context.createImageData(size, size), n = Number(slider.value);
      for (let j = 0; j < size; j++) for (let i = 0; i < size; i++) {
        const [x, y, z] = at[axis](n, i, j);
        picture.data.set([...palette(field[(x * size + y) * size + z] / 127), 255], 4 * (j * size + i));
      }
      context.putImageData(picture, 0, 0);
      words.textContent = `${axis} = ${((n + 0.5) / size - 0.5).toFixed(3)}`;
    };
    slider.addEventListener("input", draw);
    figure.append(canvas, slider, words);
    byId("planes").append(figure);
    draw();
  }
}

let links = [];

function showPictures(sample) {
  links.forEach((link) => URL.revokeObjectURL(link));
  links = [];
  byId("views").hidden = !sample.views.length;
  byId("pictures").replaceChildren(...sample.views.map((picture) => {
    const link = URL.createObjectURL(new Blob([sample.arrays[picture.array]], { type: "image/webp" }));
    links.push(link);
    const figure = element("figure");
    figure.append(element("img", null, { src: link, alt: picture.words }), element("figcaption", picture.words, { className: "quiet" }));
    return figure;
  }));
}

function words(value) {
  if (value === null || value === undefined || value === "") return "\u2013";
  if (Array.isArray(value)) return value.map(words).join(", ");
  if (typeof value === "object") return Object.entries(value).map(([key, inner]) => `${key.replaceAll("_", " ")}: ${words(inner)}`).join("\n");
  return String(value);
}

function table(title, facts) {
  const part = element("div"), rows = element("table"), body = element("tbody");
  for (const [name, value] of Object.entries(facts)) {
    const row = element("tr"), cell = element("td", words(value));
    cell.style.whiteSpace = "pre-line";
    row.append(element("td", name.replaceAll("_", " ")), cell);
    body.append(row);
  }
  rows.append(body);
  part.append(element("h3", title), rows);
  return part;
}

function showFacts(sample) {
  const { repairs, ...lineage } = sample.lineage;
  const facts = { id: sample.id, class: sample.class_name, split: sample.split, group: sample.group, tokens: sample.tokens, sha256: sample.sha256 };
  const tables = { Sample: facts, Attributes: sample.attributes, Lineage: lineage, Repairs: repairs || {}, Fields: sample.fields };
  const filled = Object.entries(tables).filter(([, rows]) => Object.keys(rows).length);
  byId("facts").replaceChildren(...filled.map(([title, rows]) => table(title, rows)));
}

// ---- The list ----

const list = byId("list");
let entries = [], next = 0, chosen = 0, asked = 0;

async function show(entry) {
  const turn = ++chosen;
  for (const button of list.querySelectorAll("button")) button.setAttribute("aria-current", String(Number(button.dataset.number) === entry.number));
  byId("trouble").hidden = true;
  try {
    const sample = await unpacked(await fetched(entry));
    if (turn !== chosen) return;
    byId("caption").textContent = sample.caption || sample.id;
    byId("about").textContent = [sample.class_name, sample.split, ...sample.notes].filter(Boolean).join(" \u00b7 ");
    showFacts(sample);
    showPictures(sample);
    showSlices(sample.arrays.field);
    if (view) showLayers(sample);
    history.replaceState(null, "", "#" + entry.number);
    document.body.dataset.shown = entry.number;
  } catch (error) {
    if (turn !== chosen) return;
    byId("caption").textContent = entry.caption || entry.id;
    byId("trouble").textContent = "This sample cannot be shown: " + error.message;
    byId("trouble").hidden = false;
    document.body.dataset.shown = "trouble";
  }
}

function listed(entry) {
  const item = element("li"), button = element("button", null, { type: "button" }), text = element("span");
  button.dataset.number = entry.number;
  button.append(entry.picture ? element("img", null, { src: entry.picture, alt: "", loading: "lazy" }) : element("span", null, { className: "blank" }), text);
  text.append(element("span", entry.caption || entry.id, { className: "words" }), element("span", `${entry.class_name} \u00b7 ${entry.split}`, { className: "quiet" }));
  button.addEventListener("click", () => show(entry));
  item.append(button);
  return item;
}

async function page(search, from) {
  if (index.live) {
    const answer = await fetch("entries?" + new URLSearchParams({ search, from }));
    if (!answer.ok) throw new Error(await answer.text());
    return answer.json();
  }
  const needle = search.toLowerCase(), texts = (entry) => `${entry.id}\n${entry.caption}\n${entry.class_name}\n${entry.split}`.toLowerCase();
  return { entries: index.entries.filter((entry) => texts(entry).includes(needle)), next: null };
}

async function fill(fresh) {
  const turn = ++asked;
  const found = await page(byId("search").value.trim(), fresh ? 0 : next);
  if (turn !== asked) return;
  if (fresh) list.replaceChildren();
  entries = fresh ? found.entries : entries.concat(found.entries);
  next = found.next;
  list.append(...found.entries.map(listed));
  byId("count").textContent = `${entries.length}${next === null ? "" : " and more"} of ${index.total}`;
}

list.addEventListener("scroll", () => {
  if (next !== null && list.scrollTop + list.clientHeight > list.scrollHeight - 300) fill(false);
});
list.addEventListener("keydown", (event) => {
  const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
  const other = step && document.activeElement.closest("li")?.[step]?.querySelector("button");
  if (!other) return;
  event.preventDefault();
  other.focus();
  other.click();
});
let waiting = 0;
byId("search").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(() => fill(true), index.live ? 250 : 60); });

(async () => {
  try {
    view = opened();
  } catch (error) {
    byId("trouble").textContent = "There is no 3D view here (WebGL): " + error.message;
    byId("trouble").hidden = false;
  }
  await fill(true);
  const number = Number(location.hash.slice(1) || NaN);
  const first = entries.find((entry) => entry.number === number) || entries[0];
  if (first) await show(first);
})();
