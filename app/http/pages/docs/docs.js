// Swagger UI over our own description; light or dark, as the system is.
"use strict";

const dark = window.matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

// A link within the button that opens an operation: opening writes its address anyway.
const OneControl = () => ({
  wrapComponents: {
    DeepLink: (Original, { React }) => (props) =>
      props.path.includes("/")
        ? React.createElement("span", null, props.text)
        : React.createElement(Original, props),
  },
});

const LEVELS = [["h3.opblock-tag", "2"], [".models h4", "2"], [".opblock-body h4", "3"], [".opblock-body h5", "4"]];
const REGIONS = [[".information-container", "About"], [".scheme-container", "Server and keys"]];

// What Swagger UI 5 leaves out for those who do not see the page, or have no mouse.
function mend() {
  for (const [selector, level] of LEVELS) {
    for (const heading of document.querySelectorAll(`${selector}:not([aria-level])`)) heading.ariaLevel = level;
  }
  for (const [selector, name] of REGIONS) {
    const part = document.querySelector(`${selector}:not([role])`);
    if (part !== null) [part.role, part.ariaLabel] = ["region", name];
  }
  for (const select of document.querySelectorAll("select:not([aria-label])")) {
    select.ariaLabel = select.id === "servers" ? "Server" : "Example or media type";
  }
  for (const text of document.querySelectorAll("pre.microlight:not([tabindex])")) text.tabIndex = 0;
  for (const label of document.querySelectorAll("label[id]")) {
    if (label.querySelector(`#${CSS.escape(label.id)}`)) label.removeAttribute("id");
  }
}
new MutationObserver(mend).observe(document.getElementById("docs"), { childList: true, subtree: true });

window.ui = SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  docExpansion: "list",
  plugins: [OneControl],
  // Nothing is fetched from elsewhere, not even a badge.
  validatorUrl: null,
});
