() => {
  // What Gradio leaves out for keyboards and screen readers; its elements come and go with the tabs.
  const complete = () => {
    for (const area of document.querySelectorAll(".block.said:not([role])")) {
      area.setAttribute("role", "status"); // tells of an answer that arrives
      area.setAttribute("aria-live", "polite");
    }
    document.querySelectorAll("tr.tr-body:not([tabindex])").forEach((row) => {
      const number = [...row.parentNode.children].indexOf(row) + 1;
      row.tabIndex = 0;
      row.setAttribute("aria-label", `Example ${number} ${row.innerText.trim()}`.trim());
    });
  };
  complete();
  new MutationObserver(complete).observe(document.body, { childList: true, subtree: true });
  document.addEventListener("keydown", (event) => {
    if (event.target.matches?.("tr.tr-body") && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      event.target.click();
    }
  });
  document.addEventListener("input", (event) => {
    const slider = event.target;
    if (slider.matches?.(".dates input[type=range]")) {
      slider.parentNode.style.setProperty("--before", `${slider.value}%`);
    }
  });
}
