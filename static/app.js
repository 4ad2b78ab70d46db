// The little that HTML and htmx cannot do alone. Everything works without it, only less smoothly.
(() => {
  "use strict";

  const LOG_LINES_SHOWN = 500; // each morph has the whole page styled anew: its pantry stands beside the body

  // --- Copy buttons ---------------------------------------------------------------------------
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    await navigator.clipboard.writeText(button.dataset.copy);
    const label = button.querySelector("span");
    const before = label.textContent;
    label.textContent = button.dataset.done;
    setTimeout(() => { label.textContent = before; }, 1500);
  });

  // --- Relative times grow old while a page stays open -------------------------------------------
  const language = document.documentElement.lang || "en";
  const relative = new Intl.RelativeTimeFormat(language, { numeric: "always", style: "short" });
  const spans = [["day", 86400, 172800], ["hour", 3600, 3600], ["minute", 60, 60]];
  const refreshTimes = () => {
    for (const element of document.querySelectorAll("time[data-ago]")) {
      const seconds = (new Date(element.dateTime) - Date.now()) / 1000;
      const span = spans.find(([, , from]) => Math.abs(seconds) >= from);
      if (span) element.textContent = relative.format(Math.trunc(seconds / span[1]), span[0]);
    }
  };
  setInterval(refreshTimes, 30000);

  // --- The log of a job: ask for what comes after the last line that is here ----------------------
  const lastLine = (log) => log.lastElementChild?.dataset.line ?? log.dataset.after ?? "0";
  document.addEventListener("htmx:before:request", (event) => {
    const request = event.detail.ctx.request;
    const log = event.target.dataset?.log && document.querySelector(event.target.dataset.log);
    if (!log) return;
    if (event.target.querySelector("[data-ended]") && log.dataset.complete) {
      event.preventDefault();
      return;
    }
    // Asked now and not when the trigger fired: a request that waited would fetch the same lines twice.
    const url = new URL(request.action, location.href);
    url.searchParams.set("after", lastLine(log));
    request.action = url.pathname + url.search;
  });
  document.addEventListener("htmx:after:request", (event) => {
    const log = event.target.dataset?.log && document.querySelector(event.target.dataset.log);
    if (!log) return;
    log.wasAtEnd = log.parentElement.scrollHeight - log.parentElement.scrollTop - log.parentElement.clientHeight < 40;
  });
  document.addEventListener("htmx:after:swap", (event) => {
    const source = event.detail.ctx?.sourceElement;
    const log = source?.dataset?.log && document.querySelector(source.dataset.log);
    if (!log) return;
    if (source.querySelector("[data-ended]") && !source.querySelector("[data-more]")) log.dataset.complete = "1";
    if (log.wasAtEnd && !log.dataset.paused) {
      while (log.childElementCount > LOG_LINES_SHOWN) log.firstElementChild.remove();
      log.parentElement.scrollTop = log.parentElement.scrollHeight;
    }
    filterLog(log);
  });

  const filterLog = (log) => {
    const tools = document.querySelector(`[data-log-tools="#${log.id}"]`);
    if (!tools) return;
    const level = Number(tools.querySelector("[name=level]").value);
    const text = tools.querySelector("[name=find]").value.toLowerCase();
    if (!level && !text && !log.dataset.filtered) return;
    log.dataset.filtered = level || text ? "1" : "";
    for (const line of log.children) {
      line.hidden = Number(line.dataset.level) < level || (text !== "" && !line.textContent.toLowerCase().includes(text));
    }
  };
  document.addEventListener("input", (event) => {
    const tools = event.target.closest("[data-log-tools]");
    if (tools) filterLog(document.querySelector(tools.dataset.logTools));
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-log-pause]");
    if (!button) return;
    const log = document.querySelector(button.dataset.logPause);
    log.dataset.paused = log.dataset.paused ? "" : "1";
    button.setAttribute("aria-pressed", log.dataset.paused ? "true" : "false");
  });
  for (const log of document.querySelectorAll(".log-lines")) log.parentElement.scrollTop = log.parentElement.scrollHeight;

  // --- What has just ended, said in a corner ---------------------------------------------------------
  const toasts = document.getElementById("toasts");
  document.addEventListener("job", (event) => {
    let news;
    try { news = JSON.parse(event.detail.data); } catch { return; }
    if (String(news.user) !== toasts?.dataset.user) return; // to nobody else it would be shown
    if (!["completed", "failed", "cancelled"].includes(news.status)) return;
    htmx.ajax("GET", `/jobs/${encodeURIComponent(news.job)}/toast`, { target: "#toasts", swap: "beforeend" });
  });
  document.addEventListener("click", (event) => event.target.closest("[data-dismiss]")?.closest(".toast-card")?.remove());
  if (toasts) {
    new MutationObserver((changes) => {
      for (const change of changes) for (const toast of change.addedNodes) setTimeout(() => toast.remove(), 12000);
    }).observe(toasts, { childList: true });
  }

  // --- A tab that nobody sees asks for nothing --------------------------------------------------------
  // Its stream pauses by itself (hx-sse) and says "stream-open" when it is back, at which every live part looks once.
  const stream = document.getElementById("stream");
  let openedUnseen = document.hidden;
  document.addEventListener("htmx:before:request", (event) => {
    if (document.hidden && event.detail.ctx.sourceElement !== stream) event.preventDefault();
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden || !openedUnseen) return;
    openedUnseen = false;
    htmx.trigger(document.body, "stream-open"); // that stream never paused
  });

  // --- A part that is gone says so in its own place, also if it would have replaced the whole page -----------
  document.addEventListener("htmx:before:response", (event) => {
    const { ctx } = event.detail;
    if (![403, 404].includes(ctx.response.status) || !ctx.sourceElement.matches("[hx-get]")) return;
    Object.assign(ctx, { target: ctx.sourceElement, select: null, swap: "innerHTML" });
  });

  // --- What was typed when the session ended: the same page has it again after the login -------------------
  const DRAFT = "phpborg-draft";
  const user = toasts?.dataset.user;
  const typed = (form) => [...form.elements].filter((field) => field.name && !["hidden", "file", "submit", "button"].includes(field.type));
  const isChosen = (field) => ["checkbox", "radio"].includes(field.type);
  const keep = (form) => {
    sessionStorage.removeItem(DRAFT);
    if (form.method !== "post" || form.querySelector("[type=password]")) return;
    const fields = typed(form).map((field) => [field.name, isChosen(field) ? field.checked : [...(field.selectedOptions ?? [field])].map((one) => one.value)]);
    if (fields.length) sessionStorage.setItem(DRAFT, JSON.stringify({ user, page: location.pathname, action: form.getAttribute("action"), fields }));
  };
  let edited;
  document.addEventListener("input", (event) => { edited = event.target.form ?? edited; });
  document.addEventListener("submit", (event) => keep(event.target));
  // A live part notices it first, and the page goes to the login by itself.
  document.addEventListener("htmx:before:response", (event) => {
    if (event.detail.ctx.response.status === 401 && edited) keep(edited);
  });
  const bringBack = ({ action, fields }) => {
    const form = [...document.forms].find((one) => one.method === "post" && one.getAttribute("action") === action && typed(one).length === fields.length);
    if (!form) return;
    typed(form).forEach((field, position) => {
      const [name, value] = fields[position];
      if (name !== field.name) return;
      if (isChosen(field)) field.checked = value;
      else if (field.options) for (const option of field.options) option.selected = value.includes(option.value);
      else [field.value] = value;
    });
    form.before(document.getElementById("kept").content.cloneNode(true));
  };
  const draft = JSON.parse(sessionStorage.getItem(DRAFT));
  sessionStorage.removeItem(DRAFT);
  const cameFrom = document.referrer && new URL(document.referrer);
  const hasLoggedIn = cameFrom?.origin === location.origin && cameFrom.pathname === "/login";
  const hadExpired = location.hash === "#again"; // the link of the page that says so
  if (hadExpired) history.replaceState(null, "", location.pathname + location.search);
  if (draft && draft.user === user && draft.page === location.pathname && (hasLoggedIn || hadExpired)) bringBack(draft);

  // --- Menus: they open by themselves (a target, a <details>), and close again -------------------------
  const menu = document.querySelector("[data-menu]");
  const showMenu = (shown) => {
    document.getElementById(menu.getAttribute("aria-controls")).classList.toggle("show", shown);
    menu.setAttribute("aria-expanded", String(shown));
  };
  menu?.addEventListener("click", (event) => {
    event.preventDefault();
    showMenu(menu.getAttribute("aria-expanded") !== "true");
  });
  menu?.addEventListener("keydown", (event) => {
    if (event.key !== " ") return; // as a button has it
    event.preventDefault();
    menu.click();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const open of document.querySelectorAll("details.dropdown[open]")) {
      open.open = false;
      open.querySelector("summary").focus();
    }
    if (menu?.getAttribute("aria-expanded") !== "true") return;
    showMenu(false);
    menu.focus();
  });
  document.addEventListener("click", (event) => {
    for (const open of document.querySelectorAll("details.dropdown[open]")) if (!open.contains(event.target)) open.open = false;
  });

  // --- Choosing entries of a folder -------------------------------------------------------------------
  document.addEventListener("change", (event) => {
    const form = event.target.closest("[data-chooser]");
    if (!form) return;
    if (event.target.matches("[data-all]")) {
      for (const box of form.querySelectorAll("[name=entry]")) box.checked = event.target.checked;
    }
    const chosen = form.querySelectorAll("[name=entry]:checked").length;
    form.querySelector("[data-chosen]").textContent = chosen;
  });
})();
