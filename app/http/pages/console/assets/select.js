/* A selection of failed jobs: preview, then retry or discard; its operation has a page of its own. */

import { ask, byId, confirmed, root, tell } from "./console.js";

const panel = byId("selection");
let selection = null;

function showSample(ids) {
  byId("sample-part").hidden = ids.length === 0;
  byId("sample").replaceChildren(...ids.map((id) => {
    const [item, link] = [document.createElement("li"), document.createElement("a")];
    link.className = "id";
    link.href = `${root}/jobs/${encodeURIComponent(id)}`;
    link.textContent = id;
    item.append(link);
    return item;
  }));
}

async function preview() {
  const button = byId("preview");
  button.disabled = true;
  byId("preview-text").textContent = "Counting…";
  try {
    const shown = await ask("POST", "v1/failures/preview", JSON.parse(panel.dataset.filter));
    selection = shown.selection;
    byId("preview-text").textContent =
      `${shown.count} ${shown.count === 1 ? "job is" : "jobs are"} taken down. What fails from now on is left alone.`;
    showSample(shown.sample);
    button.textContent = "Preview again";
    button.className = "";
    byId("order").hidden = shown.count === 0;
    if (shown.count) byId("canary").focus();
  } catch (error) {
    byId("preview-text").textContent = "There is no preview.";
    throw error;
  } finally {
    button.disabled = false;
  }
}

async function order(action) {
  const question = "Discard all of these jobs? That cannot be undone.";
  if (action === "discard" && !(await confirmed(question, "Discard"))) return;
  const body = { selection };
  const pace = byId("pace").value;
  if (pace) body.pace = Number(pace);
  if (action === "retry" && byId("canary").checked) body.canary = true;
  const begun = await ask("POST", `v1/failures/${action}`, body);
  location.assign(`${root}/operations/${encodeURIComponent(begun.id)}`);
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
}
