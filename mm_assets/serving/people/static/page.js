// Keys for the review page, and files that are dropped. Everything also works by mouse, touch and
// Tab, and without this script.
"use strict";
(() => {
  const typing = (target) => target.closest("input:not([type=submit]), textarea, select");
  const press = (selector) => {
    const found = document.querySelector(selector);
    if (found) found.click();
    return Boolean(found);
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.repeat) return;
    if (event.key === "Escape" && typing(event.target)) { event.target.blur(); return; }
    if (typing(event.target)) return;
    const key = event.key.toLowerCase();
    const done = /^[0-9a-z?/]$/.test(key) && press(`[data-key="${key}"]`);
    const field = key === "/" && document.querySelector("[data-search]");
    if (field) field.focus();
    if (done || field) event.preventDefault();
  });
  // One answer for one press.
  document.addEventListener("submit", (event) => {
    if ("again" in event.target.dataset) return;
    if (event.target.dataset.sent) { event.preventDefault(); return; }
    event.target.dataset.sent = "yes";
  });
  window.addEventListener("pageshow", () => {
    document.querySelectorAll("form[data-sent]").forEach((form) => delete form.dataset.sent);
  });
  // A file that is dropped is chosen.
  document.querySelectorAll("[data-drop]").forEach((place) => {
    const over = (event) => {
      if (!event.dataTransfer || !event.dataTransfer.types.includes("Files")) return;
      event.preventDefault();
      place.classList.toggle("over", event.type === "dragover");
    };
    for (const kind of ["dragover", "dragleave"]) place.addEventListener(kind, over);
    place.addEventListener("drop", (event) => {
      over(event);
      const input = place.querySelector("input[type=file]");
      if (!event.dataTransfer.files.length) return;
      input.files = event.dataTransfer.files;
      input.dispatchEvent(new Event("change", { bubbles: true }));
    });
  });
  // The image in its own size, and back.
  document.querySelectorAll("[data-zoom]").forEach((button) => {
    button.addEventListener("click", () => {
      const large = button.classList.toggle("large");
      button.setAttribute("aria-pressed", String(large));
    });
  });
  // Of many classes only those that hold what is typed.
  const search = document.querySelector("[data-search]");
  if (search) {
    search.addEventListener("input", () => {
      const wanted = search.value.trim().toLowerCase();
      document.querySelectorAll("[data-label]").forEach((choice) => {
        choice.hidden = !choice.dataset.label.toLowerCase().includes(wanted);
      });
    });
    search.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      const first = [...document.querySelectorAll("[data-label]")].find((choice) => !choice.hidden);
      if (first) first.click();
    });
  }
})();
