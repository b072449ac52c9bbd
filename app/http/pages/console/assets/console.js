/* The console's own script: acts, live parts, keys. What it asks is this page's origin. */

export const root = document.body.dataset.root;
const LIVE_MS = 2000;
export const byId = (id) => document.getElementById(id);

export function tell(text, isWrong = false) {
  const told = byId("told");
  told.textContent = text;
  told.classList.toggle("wrong", isWrong);
}

/* Asking */

export async function ask(method, path, body) {
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

export function confirmed(question, word) {
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

let refreshing = null;

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
  keepLive();
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
}

/* On a phone the navigation is wider than the screen. */
const current = document.querySelector("nav a[aria-current]");
if (current !== null) {
  const bar = current.parentElement;
  bar.scrollLeft = current.offsetLeft - (bar.clientWidth - current.offsetWidth) / 2;
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

/* One job: edit and retry. What was not changed is not sent, and stays as it is. */

byId("edit")?.addEventListener("submit", async (submit) => {
  submit.preventDefault();
  const faults = byId("edit-faults");
  const body = {};
  for (const name of ["params", "options"]) {
    const field = byId(name);
    if (field === null || (name === "options" && field.value === field.defaultValue)) continue;
    try {
      body[name] = JSON.parse(field.value);
    } catch (error) {
      faults.textContent = `The ${name} are no JSON: ${error.message}`;
      field.focus();
      return;
    }
  }
  try {
    await ask("POST", submit.target.dataset.post, body);
    location.reload();
  } catch (error) {
    faults.textContent = error.message;
    byId(error.message.includes("/options") ? "options" : "params").focus();
  }
});

/* One queue: its name is typed before it is emptied. */

byId("empty")?.addEventListener("submit", async (submit) => {
  submit.preventDefault();
  const { delete: path, name } = submit.target.dataset;
  const faults = byId("empty-faults");
  const typed = byId("confirm").value.trim();
  faults.textContent = typed === name ? "" : `That is not its name, which is ${name}.`;
  if (typed !== name) { byId("confirm").focus(); return; }
  submit.submitter.disabled = true;
  tell("What waits is being canceled…");
  try {
    const { canceled, is_complete } =
      await ask("DELETE", `${path}?confirm=${encodeURIComponent(typed)}`);
    const told = canceled === 1 ? "1 job is canceled." : `${canceled} jobs are canceled.`;
    if (is_complete) byId("confirm").value = "";
    else faults.textContent = "There are more: press the button again for the rest.";
    tell(told);
    await refresh();
  } catch (error) {
    tell("");
    faults.textContent = error.message;
  } finally {
    submit.submitter.disabled = false;
  }
});
