/* The console's own script: live parts, sparklines, acts. What it asks is this page's origin. */
"use strict";

const root = document.body.dataset.root;
const LIVE_MS = 2000;
const SAMPLES = 60;
const SAMPLES_KEY = "recado.console.samples";
const byId = (id) => document.getElementById(id);

function tell(text, isWrong = false) {
  const told = byId("told");
  told.textContent = text;
  told.classList.toggle("wrong", isWrong);
}

/* Asking */

async function ask(method, path, body) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(`${root}/${path}`, {
      method, headers, body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Error("The service does not answer.");
  }
  if (response.status === 401) throw new Error("The session is over: load the page again to sign in.");
  const answer = response.status === 204 ? {} : await response.json().catch(() => ({}));
  if (!response.ok) {
    const faults = (answer.errors || []).map((each) => `${each.pointer || "it"} ${each.detail}`);
    throw new Error([answer.detail || answer.title || `Status ${response.status}`, ...faults].join(" · "));
  }
  return answer;
}

function confirmed(question, word) {
  const dialog = document.createElement("dialog");
  const text = document.createElement("p");
  const row = document.createElement("p");
  const no = document.createElement("button");
  const yes = document.createElement("button");
  text.id = "question";
  text.textContent = question;
  dialog.setAttribute("aria-labelledby", "question");
  row.className = "row";
  no.textContent = "No";
  yes.textContent = word;
  yes.className = "danger";
  yes.id = "yes";
  row.append(no, yes);
  dialog.append(text, row);
  document.body.append(dialog);
  return new Promise((resolve) => {
    no.onclick = () => dialog.close("");
    yes.onclick = () => dialog.close("yes");
    dialog.onclose = () => { dialog.remove(); resolve(dialog.returnValue === "yes"); };
    dialog.showModal();
  });
}

/* Acts: a button says what it asks for, and what is to be said when that was done. */

document.addEventListener("click", async (click) => {
  const button = click.target.closest("button[data-post], button[data-delete]");
  if (button === null) return;
  const { post, delete: gone, confirm: question, said, then } = button.dataset;
  const word = button.firstChild.textContent.trim();
  if (question && !(await confirmed(question, word))) return;
  button.disabled = true;
  try {
    await ask(post ? "POST" : "DELETE", post || gone);
    tell(said);
    if (then === "reload") location.reload();
    else if (then) location.assign(then);
    else await refresh();
  } catch (error) {
    tell(error.message, true);
  } finally {
    button.disabled = false;
  }
});

/* Live */

const samples = new Map(Object.entries(readSamples()));
let refreshing = null;

function readSamples() {
  try {
    return JSON.parse(sessionStorage.getItem(SAMPLES_KEY)) || {};
  } catch {
    return {};
  }
}

function note() {
  for (const row of document.querySelectorAll("tr[data-queue]")) {
    const kept = samples.get(row.dataset.queue) || [];
    kept.push([Number(row.dataset.depth), Number(row.dataset.age)]);
    samples.set(row.dataset.queue, kept.slice(-SAMPLES));
  }
  try {
    sessionStorage.setItem(SAMPLES_KEY, JSON.stringify(Object.fromEntries(samples)));
  } catch { /* a page that may keep nothing draws what it has seen itself */ }
}

function draw() {
  for (const row of document.querySelectorAll("tr[data-queue]")) {
    for (const svg of row.querySelectorAll("svg.spark")) {
      const place = svg.dataset.of === "depth" ? 0 : 1;
      const values = (samples.get(row.dataset.queue) || []).map((each) => each[place]);
      const most = Math.max(1, ...values);
      const points = values.map((value, index) =>
        `${SAMPLES - values.length + index + 0.5},${15 - (14 * value) / most}`);
      const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
      line.setAttribute("points", points.join(" "));
      svg.replaceChildren(line);
    }
  }
}

function showWatch(state, text) {
  const watch = byId("watch");
  if (watch === null) return;
  watch.dataset.state = state;
  watch.textContent = text;
}

function put(fresh) {
  const focused = document.activeElement?.id;
  for (const id of ["live", "more"]) {
    const [old, now] = [byId(id), fresh.getElementById(id)];
    if (old !== null && now !== null && old.innerHTML !== now.innerHTML) old.innerHTML = now.innerHTML;
  }
  if (focused && document.activeElement === document.body) byId(focused)?.focus({ preventScroll: true });
}

async function refreshOnce() {
  const source = byId("live").dataset.src;
  let response;
  try {
    response = await fetch(source, { headers: { Accept: "application/xhtml+xml" } });
  } catch {
    showWatch("lost", "the service does not answer");
    return;
  }
  if (response.status === 401) {
    showWatch("lost", "signed out: load the page again");
    return;
  }
  if (!response.ok) {
    showWatch("lost", response.status === 503 ? "Redis does not answer" : `status ${response.status}`);
    return;
  }
  const text = await response.text();
  const fresh = new DOMParser().parseFromString(text, "text/html");
  const now = fresh.getElementById("live");
  // The job has ended: its page has other acts now.
  if (now !== null && !now.dataset.src) { location.reload(); return; }
  put(fresh);
  note();
  draw();
  showWatch("live", "live");
}

function refresh() {
  if (!byId("live")?.dataset.src) return Promise.resolve();
  refreshing ??= refreshOnce().finally(() => { refreshing = null; });
  return refreshing;
}

/* Text that somebody marks, to copy it, must not be taken away. */
function isReading() {
  const marked = getSelection();
  return !marked.isCollapsed && byId("main").contains(marked.anchorNode);
}

async function keepLive() {
  if (!document.hidden && document.querySelector("dialog") === null && !isReading()) await refresh();
  setTimeout(keepLive, LIVE_MS);
}

if (byId("live")?.dataset.src) {
  note();
  draw();
  keepLive();
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
}

/* Keys: / goes to the search; the arrows go through a list of links once one has the focus. */

document.addEventListener("keydown", (press) => {
  if (press.ctrlKey || press.metaKey || press.altKey) return;
  const within = press.target;
  if (press.key === "/" && !within.closest("input, textarea")) {
    press.preventDefault();
    byId("find").focus();
  }
  const list = within.closest("ul.causes, ul.jobs");
  if (list === null || !["ArrowDown", "ArrowUp"].includes(press.key)) return;
  const links = [...list.querySelectorAll(":scope > li > a")];
  const next = links[links.indexOf(within) + (press.key === "ArrowDown" ? 1 : -1)];
  if (next) { press.preventDefault(); next.focus(); }
});

/* One job: edit and retry */

byId("edit")?.addEventListener("submit", async (submit) => {
  submit.preventDefault();
  const faults = byId("edit-faults");
  let params;
  try {
    params = JSON.parse(byId("params").value);
  } catch (error) {
    faults.textContent = `This is no JSON: ${error.message}`;
    byId("params").focus();
    return;
  }
  try {
    await ask("POST", submit.target.dataset.post, { params });
    location.reload();
  } catch (error) {
    faults.textContent = error.message;
    byId("params").focus();
  }
});

/* One cause: preview, order, operation */

const panel = byId("selection");
let selection = null;
let operation = null;

function showOperation(shown) {
  const over = ["finished", "stopped", "failed"].includes(shown.state);
  const past = shown.done + shown.failed + shown.skipped;
  const counts = [`${shown.done} of ${shown.total} done`];
  if (shown.failed) counts.push(`${shown.failed} failed again`);
  if (shown.skipped) counts.push(`${shown.skipped} were no longer there to act on`);
  byId("operation").hidden = false;
  byId("operation-state").textContent = `${shown.action === "retry" ? "Retry" : "Discard"}: ${shown.state}`;
  if (shown.stopped_by) counts.push(`stopped by ${shown.stopped_by}`);
  byId("operation-count").textContent = [counts.join(", "), ...shown.warnings].join(" · ");
  byId("operation-progress").max = Math.max(1, shown.total);
  byId("operation-progress").value = Math.min(past, shown.total);
  byId("operation-pause").hidden = over || shown.state === "paused";
  byId("operation-resume").hidden = shown.state !== "paused";
  byId("operation-stop").hidden = over;
  return over;
}

async function watchOperation(id) {
  operation = id;
  byId("order").hidden = true;
  byId("preview").hidden = true;
  for (;;) {
    try {
      if (showOperation(await ask("GET", `v1/operations/${id}`))) return;
    } catch (error) {
      tell(error.message, true);
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

async function preview() {
  const shown = await ask("POST", "v1/failures/preview", { fingerprint: panel.dataset.fingerprint });
  selection = shown.selection;
  byId("preview-text").textContent =
    `${shown.count} ${shown.count === 1 ? "job is" : "jobs are"} taken down. What fails from now on is left alone.`;
  byId("sample").hidden = shown.sample.length === 0;
  byId("sample").replaceChildren(...shown.sample.map((id) => {
    const [item, link] = [document.createElement("li"), document.createElement("a")];
    link.className = "id";
    link.href = `${root}/jobs/${encodeURIComponent(id)}`;
    link.textContent = id;
    item.append(link);
    return item;
  }));
  byId("preview").textContent = "Preview again";
  byId("preview").className = "";
  byId("order").hidden = shown.count === 0;
  if (shown.count) byId("canary").focus();
}

async function order(action) {
  const question = "Discard all of these jobs? That cannot be undone.";
  if (action === "discard" && !(await confirmed(question, "Discard"))) return;
  const body = { selection };
  const pace = byId("pace").value;
  if (pace) body.pace = Number(pace);
  if (action === "retry" && byId("canary").checked) body.canary = true;
  const begun = await ask("POST", `v1/failures/${action}`, body);
  history.replaceState(null, "", `#operation=${begun.id}`);
  byId("operation").tabIndex = -1;
  showOperation(begun);
  byId("operation").focus();
  watchOperation(begun.id);
}

function telling(act) {
  return async (happened) => {
    try {
      await act(happened);
    } catch (error) {
      tell(error.message, true);
    }
  };
}

if (panel !== null) {
  byId("preview").addEventListener("click", telling(preview));
  byId("order").addEventListener("submit", telling((submit) => {
    submit.preventDefault();
    return order(submit.submitter.value);
  }));
  byId("operation").addEventListener("click", telling(async (click) => {
    const act = click.target.dataset.act;
    if (act) showOperation(await ask("POST", `v1/operations/${operation}/${act}`));
  }));
  const known = /^#operation=([\w-]{20,40})$/.exec(location.hash);
  if (known) watchOperation(known[1]);
}
