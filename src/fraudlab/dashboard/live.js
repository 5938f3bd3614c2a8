// Fetches the page anew each second and exchanges the parts that differ; nothing else is asked for, nothing is kept.
const EVERY = 1000, LOST_AFTER = 3, SLOWLY = 20000;
const pause = document.getElementById("pause"), lost = document.getElementById("lost");
let paused = false, failed = 0, said = 0;

const numbers = body => new Set(Array.from(body.querySelectorAll("tr > th"), cell => cell.textContent));

function exchange(fresh) {
  for (const part of document.querySelectorAll("[data-part]")) {
    const other = fresh.querySelector(`[data-part="${part.dataset.part}"]`);
    if (!other || other.outerHTML === part.outerHTML) continue;
    // A screen reader is told of new alerts now and then, not of each.
    if ("slow" in part.dataset) {
      if (Date.now() - said < SLOWLY) continue;
      said = Date.now();
    }
    const known = part.dataset.part === "alerts" ? numbers(part) : null;
    part.className = other.className;
    part.replaceChildren(...other.childNodes);
    if (known) for (const row of part.rows) if (row.cells.length > 1 && !known.has(row.cells[0].textContent)) row.className = "new";
  }
}

function mark(old) {
  document.documentElement.classList.toggle("old", old);
  const text = old ? lost.dataset.said : "";
  if (lost.textContent !== text) lost.textContent = text;
}

async function look() {
  if (!paused && !document.hidden) {
    try {
      const answer = await fetch(location.href, {cache: "no-store", signal: AbortSignal.timeout(5000)});
      if (!answer.ok) throw new Error(String(answer.status));
      exchange(new DOMParser().parseFromString(await answer.text(), "text/html"));
      failed = 0;
    } catch {
      failed += 1;
    }
    mark(failed >= LOST_AFTER);
  }
  setTimeout(look, EVERY);
}

pause.hidden = false;
pause.addEventListener("click", () => {
  paused = !paused;
  pause.textContent = paused ? pause.dataset.resume : pause.dataset.pause;
});
setTimeout(look, EVERY);
