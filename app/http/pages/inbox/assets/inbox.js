// The inbox page by itself: new e-mails appear, e-mails open without a reload, keys work.
// The server renders everything, so that without this file the page is only less quick.

const POLL_MS = 500;
const LOST_POLL_MS = 2000;
const REMEMBERED = 1000;
const READ_KEY = "recado.inbox.read";

const list = document.getElementById("list");
const reader = document.getElementById("reader");
const watch = document.getElementById("watch");
const news = document.getElementById("news");

let etag = `"${list.dataset.stamp}"`;
let opening = 0;
let timer = null;
let polling = false;

// --- what was read, kept in this browser ---

function loadRead() {
  try {
    return new Set(JSON.parse(localStorage.getItem(READ_KEY) ?? "[]"));
  } catch {
    return new Set();
  }
}

const read = loadRead();

function markRead(id) {
  read.add(id);
  try {
    localStorage.setItem(READ_KEY, JSON.stringify([...read].sort().slice(-REMEMBERED)));
  } catch {
    // Storage may be full or forbidden; then marks last as long as the page.
  }
}

// --- the list ---

const rows = () => [...list.querySelectorAll(".row")];
const openedId = () => reader.querySelector(".mail")?.dataset.id ?? null;

function decorate() {
  const opened = openedId();
  let unread = 0;
  for (const row of rows()) {
    const isOpened = row.dataset.id === opened;
    if (isOpened) row.setAttribute("aria-current", "page");
    else row.removeAttribute("aria-current");
    const isUnread = !read.has(row.dataset.id);
    row.classList.toggle("is-unread", isUnread);
    if (isUnread) unread += 1;
  }
  document.body.classList.toggle("is-reading", opened !== null);
  document.body.classList.toggle("is-listing", opened === null);
  const subject = reader.querySelector(".mail h1")?.textContent ?? "Inbox";
  document.title = `${unread > 0 ? `(${unread}) ` : ""}${subject} · Recado`;
}

function localTimes(root) {
  const today = new Date().toDateString();
  for (const time of root.querySelectorAll("time")) {
    const at = new Date(time.dateTime);
    const isToday = at.toDateString() === today;
    const clock = { hour: "2-digit", minute: "2-digit" };
    const style = time.dataset.style === "long"
      ? { weekday: "short", day: "numeric", month: "short", year: "numeric", ...clock, second: "2-digit" }
      : isToday ? clock : { day: "numeric", month: "short" };
    time.textContent = at.toLocaleString(undefined, style);
    time.title = at.toISOString();
  }
}

async function page(address, signal) {
  const response = await fetch(address, { cache: "no-store", signal });
  if (!response.ok) throw new Error(`status ${response.status}`);
  return new DOMParser().parseFromString(await response.text(), "text/html");
}

async function refreshList() {
  const known = new Set(rows().map((row) => row.dataset.id));
  const focused = document.activeElement?.closest?.(".row")?.dataset.id;
  const fresh = await page("/inbox");
  list.replaceChildren(...fresh.getElementById("list").childNodes);
  localTimes(list);
  const arrived = rows().filter((row) => !known.has(row.dataset.id));
  for (const row of arrived) row.classList.add("is-new");
  if (openedId() === null) showReader(fresh);
  decorate();
  if (focused) rows().find((row) => row.dataset.id === focused)?.focus({ preventScroll: true });
  if (arrived.length === 1) {
    news.textContent = `New e-mail: ${arrived[0].querySelector(".subject").textContent}`;
  } else if (arrived.length > 1) {
    news.textContent = `${arrived.length} new e-mails`;
  }
}

// --- asking for news ---

async function poll() {
  if (polling || document.hidden) return;
  polling = true;
  let wait = POLL_MS;
  try {
    const response = await fetch("/inbox/mails.json", {
      cache: "no-store",
      headers: { "If-None-Match": etag },
    });
    if (response.status === 200) {
      await refreshList();
      etag = response.headers.get("ETag") ?? "";
    } else if (response.status !== 304) {
      throw new Error(`status ${response.status}`);
    }
    state("live", "Watching");
  } catch {
    state("lost", "Reconnecting…");
    wait = LOST_POLL_MS;
  }
  polling = false;
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(poll, wait);
}

function state(name, words) {
  if (watch.dataset.state === name) return;
  watch.dataset.state = name;
  watch.textContent = words;
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  poll();
});

// --- one e-mail ---

function showReader(fresh) {
  reader.replaceChildren(...fresh.getElementById("reader").childNodes);
  localTimes(reader);
  offerCopy();
}

async function open(address, { keep = true } = {}) {
  const turn = ++opening;
  try {
    const fresh = await page(address);
    if (turn !== opening) return;
    showReader(fresh);
    if (keep) history.pushState(null, "", address);
    const id = openedId();
    if (id !== null) markRead(id);
    decorate();
  } catch {
    if (turn === opening) location.assign(address);
  }
}

window.addEventListener("popstate", () => open(location.pathname + location.search, { keep: false }));

document.addEventListener("click", (click) => {
  const link = click.target.closest?.("a.row, .views a, a.back, .bar a");
  if (!link || click.button !== 0) return;
  if (click.metaKey || click.ctrlKey || click.shiftKey || click.altKey) return;
  click.preventDefault();
  open(link.getAttribute("href")).then(() => {
    if (link.matches(".views a")) reader.querySelector(".views [aria-current]")?.focus();
    else if (link.matches(".row") && isNarrow()) reader.focus();
  });
});

const isNarrow = () => window.matchMedia("(max-width: 760px)").matches;

// --- keys ---

document.addEventListener("keydown", (key) => {
  if (key.metaKey || key.ctrlKey || key.altKey || key.defaultPrevented) return;
  // Arrows scroll what has the focus and can be scrolled.
  const scrolls = key.target.closest?.("pre, .fields, details") !== null;
  if (key.key === "j" || (key.key === "ArrowDown" && !scrolls)) step(1, key);
  else if (key.key === "k" || (key.key === "ArrowUp" && !scrolls)) step(-1, key);
  else if (key.key === "Escape" && openedId() !== null) open("/inbox");
});

function step(by, key) {
  const all = rows();
  if (all.length === 0) return;
  key.preventDefault();
  const focused = document.activeElement?.closest?.(".row")?.dataset.id;
  const at = all.findIndex((row) => row.dataset.id === (focused ?? openedId()));
  const next = all[at < 0 ? 0 : Math.min(Math.max(at + by, 0), all.length - 1)];
  next.focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
  open(next.getAttribute("href"));
}

// --- the command to try ---

function offerCopy() {
  const button = reader.querySelector(".copy");
  if (!button || !navigator.clipboard) return;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copies).textContent);
    button.textContent = "Copied";
  });
}

localTimes(document);
offerCopy();
if (openedId() !== null) markRead(openedId());
decorate();
poll();
