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
    for (const header of document.querySelectorAll("button.label-wrap")) {
      set(header, "aria-expanded", String(header.classList.contains("open")));
    }
    // One stop of the Tab key for all tabs, and arrows between them.
    for (const tab of document.querySelectorAll("[role=tab]")) {
      tab.tabIndex = tab.ariaSelected === "true" ? 0 : -1;
    }
    const [panel, tab] = [shown("[role=tabpanel]"), shown("[role=tab][aria-selected=true]")];
    if (panel && tab) set(panel, "aria-label", tab.innerText.trim());
    document.querySelectorAll("tr.tr-body:not([tabindex])").forEach((row) => {
      const number = [...row.parentNode.children].indexOf(row) + 1;
      row.tabIndex = 0;
      row.setAttribute("aria-label", `Example ${number} ${row.innerText.trim()}`.trim());
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
  window.fetch = async (...given) => {
    if (!/\/gradio_api\/upload(\?|$)/.test(given[0]?.url ?? given[0])) return send(...given);
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
}
