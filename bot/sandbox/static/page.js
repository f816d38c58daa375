// The page draws what the server says and sends deeds back. It keeps no truth of its own: only who holds the
// phone, which app and chat is open, and what was already seen.

const key = new URLSearchParams(location.search).get("key") || "";
const $ = (id) => document.getElementById(id);
const my = { who: "rudo", app: "telegram", chat: null, reply: null, sound: false, seen: new Map(), rings: null };
let state = null;
let source = null;

function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "html") element.innerHTML = value;
    else if (name === "class") element.className = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

const ICON = {
  silent: "M6 17v-6a6 6 0 0 1 9-5M18 11v6H5M10 20h4M4 4l16 16",
  sent: "M5 13l5 5L20 7",
  read: "M2 13l5 5L17 7M12 17l1 1L23 7",
};

function icon(name, extra = "") {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", extra);
  path.setAttribute("d", ICON[name]);
  svg.append(path);
  return svg;
}

async function deed(verb, order = {}) {
  const answer = await fetch("/do", {
    method: "POST",
    headers: { "X-Page-Key": key, "Content-Type": "application/json" },
    body: JSON.stringify({ verb, ...order }),
  });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) toast(body.error || "That did not work.");
  return body;
}

// Keeps the children of *box* in step with *items*; an element is rebuilt only when its item changed.
function draw(box, items, id, build) {
  const old = new Map([...box.children].map((child) => [child.dataset.id, child]));
  let at = box.firstElementChild;
  for (const item of items) {
    const name = String(id(item));
    const print = JSON.stringify(item);
    let element = old.get(name);
    if (!element || element.dataset.print !== print) {
      const fresh = build(item, Boolean(element));
      fresh.dataset.id = name;
      fresh.dataset.print = print;
      if (element) {
        if (element === at) at = element.nextElementSibling;
        element.remove();
      }
      element = fresh;
    }
    old.delete(name);
    if (element === at) at = at.nextElementSibling;
    else box.insertBefore(element, at);
  }
  for (const gone of old.values()) gone.remove();
}

const clock = (date) => new Date(date * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", timeZone: state.timezone });
const pressed = (element, on) => element.setAttribute("aria-pressed", String(on));

// The phone

function chatNow() {
  const chats = state.telegram.chats;
  return chats.find((chat) => chat.id === my.chat) || chats[0];
}

function drawPhone() {
  const phone = $("phone");
  phone.classList.toggle("whatsapp", my.app === "whatsapp");
  document.querySelectorAll("[data-app]").forEach((button) => pressed(button, button.dataset.app === my.app));
  draw($("people"), state.people, (person) => person.id, drawPerson);
  [...$("people").children].forEach((button) => pressed(button, button.dataset.id === my.who));
  const box = $("messages");
  const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 60;
  const before = box.lastElementChild?.dataset.id;
  if (my.app === "telegram") drawTelegram(box);
  else drawWhatsApp(box);
  if (atEnd || before !== box.lastElementChild?.dataset.id) box.scrollTop = box.scrollHeight;
  $("real").hidden = !(state.telegram.real && my.app === "telegram");
  $("replying").hidden = !my.reply;
  if (my.reply) $("replying").firstElementChild.textContent = my.reply.text;
}

function drawPerson(person) {
  return h("button", { onclick: () => hold(person.id) }, person.name, h("small", {}, person.role));
}

function drawTelegram(box) {
  const chat = chatNow();
  draw($("chats"), state.telegram.chats.map(({ id, title, messages }) => {
    const last = messages.filter((message) => message.bot).at(-1)?.id || 0;
    if (id === chat.id && document.visibilityState === "visible") my.seen.set(my.who + id, last);
    const seen = my.seen.get(my.who + id) || 0;
    return { id, title, unread: messages.filter((m) => m.bot && m.id > seen).length };
  }), (one) => one.id, drawChatTab);
  [...$("chats").children].forEach((button) => pressed(button, button.dataset.id === String(chat.id)));
  $("pinned").hidden = !chat.pinned;
  $("pinned").textContent = chat.pinned;
  draw(box, chat.messages.map((m) => ({ ...m, chat: chat.id, group: chat.kind !== "private" })), (m) => `${m.chat}/${m.id}`, drawMessage);
  const menu = state.telegram.commands.map((one) => "/" + one.command);
  drawChips(menu.length ? menu : ["/start", "/status", "/audit", "/help"]);
}

function drawChatTab({ id, title, unread }) {
  return h("button", { onclick: () => { my.chat = id; my.reply = null; drawPhone(); } }, title, unread ? h("i", {}, String(unread)) : null);
}

function drawMessage(message, changed) {
  const named = message.group && !message.mine;
  const text = h("span", { html: message.html });
  const meta = h("span", { class: "meta" }, message.silent ? icon("silent") : null, (message.edited ? "edited " : "") + clock(message.date));
  const bubble = h("div", { class: "bubble" },
    named ? h("b", { class: "name" }, message.name) : null,
    message.reply ? h("span", { class: "quote" }, message.reply) : null,
    message.file ? drawFile(message.file) : null,
    text, meta, message.mine ? null : replyButton(message.id, text));
  return h("div", { class: `message ${message.mine ? "mine" : ""} ${message.bot ? "bot" : ""} ${changed ? "changed" : ""}` },
    bubble, message.keyboard.length ? drawKeys(message) : null);
}

function drawFile(file) {
  const url = `${file.url}?key=${encodeURIComponent(key)}`;
  return file.kind === "photo" ? h("img", { src: url, alt: file.says || file.name, width: file.size[0], height: file.size[1] }) : h("a", { class: "file", href: url, download: file.name }, file.name);
}

function replyButton(id, text) {
  return h("button", { class: "reply", onclick: () => { my.reply = { id, text: text.textContent.split("\n")[0] }; drawPhone(); $("text").focus(); } }, "Reply");
}

function drawKeys(message) {
  return h("div", { class: "keys" }, ...message.keyboard.map((row) => h("div", {}, ...row.map((button) => drawKey(message, button)))));
}

function drawKey(message, button) {
  const element = h("button", { class: button.style || "" }, button.text);
  element.addEventListener("click", async () => {
    if (button.url) return void window.open(button.url, "_blank", "noopener");
    element.classList.add("waits");
    const { answer, error } = await deed("tap", { who: my.who, chat: message.chat, message: message.id, data: button.callback_data });
    element.classList.remove("waits");
    if (error) return;
    if (!answer) toast("No answer came.");
    else if (answer.alert) alertBox(answer.text);
    else if (answer.text) toast(answer.text);
  });
  return element;
}

function drawWhatsApp(box) {
  const { open, number, messages } = state.whatsapp;
  draw($("chats"), [{ id: "window", open, number }], (one) => one.id, drawWindow);
  $("pinned").hidden = true;
  draw(box, messages, (m) => m.id, drawText);
  drawChips(["status", "audit", "help"]);
}

function drawWindow({ open, number }) {
  const change = h("button", { onclick: () => deed("window", { who: my.who, opened: !open }) }, open ? "Let a day pass" : "Open it");
  return h("p", {}, `${number} · 24 h window ${open ? "open" : "closed"}`, change);
}

function drawText(message, changed) {
  const tick = message.mine || message.error ? null : icon(message.status === "sent" ? "sent" : "read", message.status === "read" ? "read" : "");
  const text = h("span", {}, message.text);
  const bubble = h("div", { class: "bubble" },
    message.reply ? h("span", { class: "quote" }, message.reply) : null,
    message.sms ? h("b", { class: "name" }, "SMS") : null,
    text, h("span", { class: "meta" }, clock(message.date), tick), message.mine ? null : replyButton(message.id, text));
  const keys = message.buttons.length && !message.error ? h("div", { class: "keys" }, ...message.buttons.map((title) => h("div", {},
    h("button", { onclick: () => deed("quick_reply", { who: my.who, message: message.id, title }) }, title)))) : null;
  return h("div", { class: `message ${message.mine ? "mine" : ""} ${message.error ? "failed" : ""} ${changed ? "" : ""}`,
    "data-why": message.error ? `never arrived: ${message.error}` : null }, bubble, keys);
}

function drawChips(texts) {
  draw($("chips"), texts.map((text) => ({ text })), (one) => one.text, ({ text }) => h("button", { type: "button", onclick: () => send(text) }, text));
}

async function send(text) {
  const order = { who: my.who, channel: my.app, text, reply_to: my.reply?.id ?? null };
  if (my.app === "telegram") order.chat = chatNow().id;
  my.reply = null;
  await deed("send", order);
}

let toastEnds = 0;
function toast(text) {
  $("toast").textContent = text;
  $("toast").hidden = false;
  clearTimeout(toastEnds);
  toastEnds = setTimeout(() => { $("toast").hidden = true; }, 4500);
}

function alertBox(text) {
  $("alert").querySelector("p").textContent = text;
  if (!$("alert").open) $("alert").showModal();
}

// A new message with sound shakes the phone and shows its first line; an edit or a silent message does not.
let bannerEnds = 0;
function ring() {
  const { count, text, chat } = state.telegram.ring;
  const before = my.rings;
  my.rings = count;
  if (before === null || count <= before) return;
  $("phone").classList.remove("rings");
  void $("phone").offsetWidth;
  $("phone").classList.add("rings");
  const [title, line] = $("banner").querySelectorAll("b, span");
  title.textContent = state.telegram.chats.find((one) => one.id === chat)?.title || "Countersign";
  line.textContent = text;
  $("banner").hidden = false;
  $("banner").onclick = () => { my.app = "telegram"; my.chat = chat; $("banner").hidden = true; drawPhone(); };
  clearTimeout(bannerEnds);
  bannerEnds = setTimeout(() => { $("banner").hidden = true; $("phone").classList.remove("rings"); }, 5000);
  if (document.body.dataset.view !== "phone") $("unread").hidden = false;
  if (my.sound) beep();
}

let audio = null;
function beep() {
  audio ??= new AudioContext();
  for (const [at, pitch] of [[0, 880], [0.18, 1175], [0.36, 880]]) {
    const tone = audio.createOscillator();
    const gain = audio.createGain();
    tone.frequency.value = pitch;
    gain.gain.setValueAtTime(0.12, audio.currentTime + at);
    gain.gain.exponentialRampToValueAtTime(0.001, audio.currentTime + at + 0.16);
    tone.connect(gain).connect(audio.destination);
    tone.start(audio.currentTime + at);
    tone.stop(audio.currentTime + at + 0.17);
  }
}

// The shop

const GRAPHS = [
  { id: "rps", title: "requests", unit: "/ s", floor: 30, loud: () => false, show: (v) => String(Math.round(v)) },
  { id: "errors", title: "fail", unit: "%", floor: 20, loud: (v) => v > 2, show: (v) => v.toFixed(v < 10 ? 1 : 0) },
  { id: "p95", title: "p95 latency", unit: "ms", floor: 100, loud: (v) => v > 500, show: (v) => String(Math.round(v)) },
];
const SECONDS = 120;

function mean(points, name) {
  const last = points.slice(-3);
  return last.length ? last.reduce((sum, point) => sum + point[name], 0) / last.length : 0;
}

function drawGraph({ id, title, unit, floor, loud, show }, points) {
  const values = points.slice(-SECONDS).map((point) => point[id]);
  const top = Math.max(floor, ...values) * 1.15;
  const x = (i) => ((SECONDS - values.length + i) / (SECONDS - 1)) * 300;
  const y = (value) => (58 - (value / top) * 54).toFixed(1);
  const line = values.map((value, i) => `${x(i).toFixed(1)},${y(value)}`).join(" ");
  let box = $("graphs").querySelector(`.${id}`);
  if (!box) {
    box = h("div", { class: `graph ${id}`, html: `<div><b><span></span><small>${unit}</small></b><span>${title}</span></div>
      <svg viewBox="0 0 300 60" preserveAspectRatio="none" role="img" aria-label="${title}"><polygon class="area"/><polyline class="line"/></svg>` });
    $("graphs").append(box);
  }
  const now = mean(points, id);
  box.classList.toggle("loud", loud(now));
  box.querySelector("b span").textContent = show(now);
  box.querySelector(".line").setAttribute("points", line);
  box.querySelector(".area").setAttribute("points", values.length ? `${x(0)},60 ${line} 300,60` : "");
}

function drawShop() {
  const { points, running, faults, mood } = state.shop;
  GRAPHS.forEach((graph) => drawGraph(graph, points));
  const ill = mean(points, "errors") > 2 || mean(points, "p95") > 500 || (points.length > 5 && mean(points, "rps") < 1);
  const [kind, text] = !running ? ["dead", "shop is down"] : ill ? ["ill", "shop is ill"] : ["well", "shop is well"];
  $("health").className = `pill ${kind}`;
  $("health").textContent = text;
  document.querySelectorAll("[data-fault]").forEach((button) => {
    const name = button.dataset.fault;
    pressed(button, name === "die" ? !running : Boolean(faults[name]));
  });
  dial("errors", Math.round((faults.errors || 0) * 100), (v) => `${v} %`);
  dial("latency", faults.latency || 1, (v) => `× ${v}`);
  if (document.activeElement !== $("models")) $("models").value = state.models;
  if (document.activeElement !== $("mood")) $("mood").value = mood || "";
}

function dial(id, value, show) {
  if (document.activeElement !== $(id)) $(id).value = value;
  $(`${id}-out`).textContent = show($(id).value);
}

// The ledger

const LOOKS = {
  DETECTED: "bad", WEBHOOK_FAILED: "bad", NOT_RECOVERED: "bad", UNKNOWN: "bad", PROPOSED: "asks", VALIDATED: "asks",
  AUTHORIZED: "runs", EXECUTING: "runs", EXECUTED: "runs", RECOVERED: "good", RESOLVED: "good",
};

function drawLedger() {
  draw($("ledger"), [...state.ledger].reverse(), (row) => row.seq, (row) => h("li", {},
    h("span", { class: "seq" }, `#${row.seq}`),
    h("span", { class: "event" }, h("b", {}, row.event), h("span", {}, ` by ${row.actor}`)),
    row.stage ? h("span", { class: `stage ${LOOKS[row.stage] || ""}` }, String(row.stage).replaceAll("_", " ")) : h("span"),
    row.reason ? h("span", { class: "reason" }, row.reason) : null,
    row.receipt ? h("span", { class: "receipt" }, row.receipt) : null));
  $("entries").textContent = state.entries;
  $("no-entries").hidden = state.entries > 0;
}

// Wiring

function show() {
  drawPhone();
  drawShop();
  drawLedger();
  ring();
  if (state.title) $("title").textContent = state.title;
}

function hold(who) {
  Object.assign(my, { who, reply: null, rings: null });
  listen();
}

function listen() {
  source?.close();
  source = new EventSource(`/events?key=${encodeURIComponent(key)}&who=${my.who}`);
  source.onmessage = (event) => { state = JSON.parse(event.data); show(); };
  source.onerror = () => { $("health").className = "pill"; $("health").textContent = "connecting"; };
}

document.querySelectorAll("[data-app]").forEach((button) => button.addEventListener("click", () => {
  Object.assign(my, { app: button.dataset.app, reply: null });
  drawPhone();
}));
document.querySelectorAll(".tabs [data-view]").forEach((button) => button.addEventListener("click", () => {
  document.body.dataset.view = button.dataset.view;
  document.querySelectorAll(".tabs [data-view]").forEach((one) => pressed(one, one === button));
  if (button.dataset.view === "phone") { $("unread").hidden = true; $("messages").scrollTop = $("messages").scrollHeight; }
}));
document.querySelectorAll("[data-fault]").forEach((button) => button.addEventListener("click", () => {
  const name = button.dataset.fault;
  const on = button.getAttribute("aria-pressed") === "true";
  deed("faults", name === "die" && on ? { start: true } : { [name]: !on });
}));
for (const [id, value] of [["errors", (v) => v / 100], ["latency", (v) => v]]) {
  $(id).addEventListener("input", () => { $(`${id}-out`).textContent = id === "errors" ? `${$(id).value} %` : `× ${$(id).value}`; });
  $(id).addEventListener("change", () => { deed("faults", { [id]: value(Number($(id).value)) }); $(id).blur(); });
}
$("well").addEventListener("click", () => deed("faults", { well: true }));
$("models").addEventListener("change", () => { deed("models", { script: $("models").value }); $("models").blur(); });
$("mood").addEventListener("change", () => { deed("faults", { mood: $("mood").value }); $("mood").blur(); });
$("flood").addEventListener("click", () => { deed("flood", { chat: chatNow().id, seconds: 10 }); toast("For 10 s Telegram answers 429 in this chat."); });
$("replying").lastElementChild.addEventListener("click", () => { my.reply = null; drawPhone(); });
$("sound").addEventListener("click", () => {
  my.sound = !my.sound;
  pressed($("sound"), my.sound);
  $("sound").lastElementChild.textContent = my.sound ? "rings" : "silent";
  if (my.sound) beep();
});
$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  $("text").value = "";
  if (text) send(text);
});
listen();
