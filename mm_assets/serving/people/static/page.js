// Keys for the review page, and files that are dropped. Everything also works by mouse, touch and
// Tab, and without this script. It is read before the page is shown, so that no key is too early.
"use strict";
(() => {
  const typing = (target) => target.closest("input:not([type=submit]), textarea, select");
  const press = (selector) => {
    const found = document.querySelector(selector);
    if (found) found.click();
    return Boolean(found);
  };
  const whole = (then) => {
    if (document.readyState !== "loading") then();
    else document.addEventListener("DOMContentLoaded", then, { once: true });
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.repeat) return;
    if (event.key === "Escape" && typing(event.target)) { event.target.blur(); return; }
    if (typing(event.target)) return;
    const key = event.key.toLowerCase();
    if (!/^[0-9a-z?/]$/.test(key)) return;
    whole(() => {
      const done = press(`[data-key="${key}"]`);
      const field = key === "/" && document.querySelector("[data-search]");
      if (field) field.focus();
      if (done || field) event.preventDefault();
    });
  });
  // One page sends one form: no second answer, and no undo of another record, while it is on its way.
  let sent = false;
  document.addEventListener("submit", (event) => {
    if ("again" in event.target.dataset || event.defaultPrevented) return;
    if (sent) event.preventDefault();
    sent = true;
  });
  window.addEventListener("pageshow", () => { sent = false; });
  whole(() => {
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
    // A file goes in parts, each where the one before ended, so that nothing is sent twice.
    document.querySelectorAll("form[data-parts]").forEach((form) => {
      const shown = form.querySelector("[data-progress]");
      const bar = shown.querySelector("progress"), words = shown.querySelector("span");
      const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
      const told = async (answer) => {
        const said = await answer.json().catch(() => ({}));
        if (!answer.ok && answer.status !== 409 && ![502, 503, 504].includes(answer.status)) {
          throw new Error([said.detail || said.title, said.todo].filter(Boolean).join(" ") || "It was refused.");
        }
        return answer.ok || answer.status === 409 ? said : null;
      };
      const ask = async (path, how) => {
        for (let tries = 0; ; tries += 1) {
          const said = await fetch(path, how).then(told, (error) => {
            if (error.name !== "TypeError") throw error; // the network is away
            return null;
          });
          if (said) return said;
          if (tries === 30) throw new Error("The service does not answer. Choose the file again later: it goes on where it stopped.");
          words.textContent = "Waiting for the service …";
          await pause(Math.min(2 ** tries, 10));
        }
      };
      const send = async (file) => {
        const about = new FormData();
        about.append("name", file.name);
        about.append("size", file.size);
        about.append("stamp", file.lastModified);
        const path = form.dataset.parts;
        let said = await ask(path, { method: "POST", body: about });
        const own = `${path}/${said.part}`;
        let size = 1 << 20;
        while (said.offset < file.size) {
          const begun = performance.now(), from = said.offset;
          said = await ask(`${own}?offset=${from}`, { method: "PATCH", body: file.slice(from, from + size) });
          if (said.code === "part_busy") await pause(1);
          const took = performance.now() - begun;
          if (took < 1000 && size < 8 << 20) size *= 2;
          if (took > 8000 && size > 1 << 16) size /= 2;
          bar.value = (100 * said.offset) / file.size;
          words.textContent = `${Math.floor(bar.value)}% of ${(file.size / 1048576).toFixed(1)} MB`;
        }
        words.textContent = "Sent; it is being checked …";
        bar.removeAttribute("value");
        location.assign((await ask(`${own}/finish`, { method: "POST" })).to);
      };
      form.addEventListener("submit", (event) => {
        const file = form.querySelector("input[type=file]").files[0];
        if (!file) return;
        event.preventDefault();
        if (form.dataset.sent) return;
        form.dataset.sent = "yes";
        shown.hidden = false;
        words.classList.remove("fault");
        send(file).catch((error) => {
          words.textContent = error.message;
          words.classList.add("fault");
          delete form.dataset.sent;
        });
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
  });
})();
