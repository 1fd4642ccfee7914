() => {
  const shown = (selector) => [...document.querySelectorAll(selector)].find((one) => one.offsetParent);
  const set = (one, name, value) => one.getAttribute(name) === value || one.setAttribute(name, value);

  // What Gradio leaves out for keyboards and screen readers; its elements come and go with the tabs.
  const complete = () => {
    for (const area of document.querySelectorAll(".block.said:not([role])")) {
      area.setAttribute("role", "status"); // tells of an answer that arrives
      area.setAttribute("aria-live", "polite");
    }
    for (const icon of document.querySelectorAll("svg:not([aria-hidden])")) {
      icon.setAttribute("aria-hidden", "true"); // words or the button's name stand beside it
    }
    // Several fields say "Drop an image file here" or "Clear": of which one?
    for (const button of document.querySelectorAll(".block button[aria-label]:not([data-named])")) {
      const label = button.closest(".block").querySelector("[data-testid=block-label]")?.innerText.trim();
      if (label) {
        button.setAttribute("aria-label", `${label}: ${button.getAttribute("aria-label")}`);
        button.dataset.named = "";
      }
    }
    for (const button of document.querySelectorAll("[title='common.upload']")) { // Gradio lacks the word
      button.title = "Choose others";
      button.setAttribute("aria-label", button.getAttribute("aria-label").replace("common.upload", button.title));
    }
    for (const drawn of document.querySelectorAll(".drawn .image-frame img")) {
      set(drawn, "alt", drawn.closest(".block").querySelector("[data-testid=block-label]").innerText.trim());
    }
    for (const header of document.querySelectorAll("button.label-wrap")) {
      set(header, "aria-expanded", String(header.classList.contains("open")));
    }
    // One stop of the Tab key for all tabs, and arrows between them.
    for (const tab of document.querySelectorAll("[role=tab]")) {
      tab.tabIndex = tab.ariaSelected === "true" ? 0 : -1;
    }
    const [panel, tab] = [shown("[role=tabpanel]"), shown("[role=tab][aria-selected=true]")];
    if (panel && tab) set(panel, "aria-label", tab.innerText.trim());
    document.querySelectorAll("tr.tr-body").forEach((row) => {
      const number = [...row.parentNode.children].indexOf(row) + 1;
      row.tabIndex = 0;
      row.querySelectorAll("td[tabindex]").forEach((cell) => cell.removeAttribute("tabindex")); // the row is the stop
      set(row, "aria-label", `Example ${number} ${row.innerText.trim()}`.trim()); // its words come after the row
    });
  };
  complete();
  const watched = { childList: true, subtree: true, attributeFilter: ["aria-selected", "class"] };
  new MutationObserver(complete).observe(document.body, watched);

  const goTo = (tabs, place) => {
    const tab = tabs.at(place % tabs.length);
    tab.click();
    tab.focus();
  };
  document.addEventListener("keydown", (event) => {
    const { target, key } = event;
    if (target.matches?.("tr.tr-body") && (key === "Enter" || key === " ")) {
      event.preventDefault();
      target.click();
    }
    if (target.matches?.("[role=tab]")) {
      const tabs = [...target.parentNode.querySelectorAll("[role=tab]")];
      const at = tabs.indexOf(target);
      const place = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: -1 }[key];
      if (place !== undefined) {
        event.preventDefault();
        goTo(tabs, place);
      }
    }
  });
  document.addEventListener("input", (event) => {
    const slider = event.target;
    if (slider.matches?.(".dates input[type=range]")) {
      slider.parentNode.style.setProperty("--before", `${slider.value}%`);
    }
  });

  // An upload that the server refuses: Gradio shows none of its words.
  const tell = (sentence) => {
    document.querySelector(".said .refused")?.remove();
    if (!sentence) return;
    const told = document.createElement("p");
    told.className = "error refused";
    told.setAttribute("role", "alert");
    told.append(Object.assign(document.createElement("b"), { textContent: "Not uploaded." }), ` ${sentence}`);
    shown(".block.said")?.append(told);
  };
  const send = window.fetch;
  const upload = async (...given) => {
    tell("");
    try {
      const answer = await send(...given);
      if (!answer.ok) tell(await answer.clone().text());
      return answer;
    } catch (error) {
      tell("The connection was cut off; the files may be too large together.");
      throw error;
    }
  };

  // Gradio's server closes the stream of answers when none is due. Whoever asks at that moment, before Gradio's script
  // has read of the close, is never answered: the script takes the stream for open. Here it goes on for such events.
  const areas = new Map(); // by event, where its answer will stand
  const wait = ({ msg, event_id: id, rank }) => {
    const area = areas.get(id);
    area?.querySelector(".waiting")?.remove();
    if (msg !== "estimation") return areas.delete(id);
    const told = Object.assign(document.createElement("p"), { className: "aside waiting" });
    told.textContent = `Waiting for its turn; ${rank + 1} before it.`; // one of them is being answered
    area?.append(told);
  };
  const [joining, due, early] = [new Set(), new Set(), new Set()]; // early: ended before the join was confirmed
  const join = (...given) => {
    const area = shown(".block.said");
    const joined = send(...given).then(async (answer) => {
      const { event_id: id } = answer.ok ? await answer.clone().json() : {};
      if (id && !early.delete(id)) {
        due.add(id);
        areas.set(id, area);
      }
      return answer;
    });
    joining.add(joined);
    return joined.finally(() => joining.delete(joined));
  };
  const listen = async (...given) => {
    const encoder = new TextEncoder();
    let reader, rest;
    const open = async () => {
      const answer = await send(...given);
      if (answer.ok) [reader, rest] = [answer.body.pipeThrough(new TextDecoderStream()).getReader(), ""];
      return answer;
    };
    const pass = async (out) => {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return due.clear();
        const messages = (rest + value).split("\n\n");
        rest = messages.pop();
        for (const message of messages) {
          const told = JSON.parse(message.slice("data: ".length));
          const { msg, event_id: id } = told;
          if (id) wait(told);
          if (msg === "process_completed" && !due.delete(id)) early.add(id);
          if (msg === "close_stream") {
            await Promise.allSettled(joining);
            early.clear();
            if (due.size && (await open()).ok) break;
          }
          out.enqueue(encoder.encode(`${message}\n\n`));
        }
      }
    };
    const { ok, status, headers, body } = await open();
    if (!ok) return new Response(body, { status, headers });
    const start = (out) => void pass(out).then(() => out.close(), (error) => out.error(error));
    return new Response(new ReadableStream({ start, cancel: (why) => reader.cancel(why) }), { status, headers });
  };

  const routes = { upload, "queue/join": join, "queue/data": listen };
  window.fetch = (...given) => {
    const path = new URL(given[0]?.url ?? given[0], location.href).pathname;
    return (routes[path.split("/gradio_api/")[1]] ?? send)(...given);
  };
}
