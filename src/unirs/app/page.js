() => {
  // Gradio gives its HTML areas no role: without one, screen readers do not tell of an answer that arrives.
  for (const area of document.querySelectorAll(".said")) {
    area.setAttribute("role", "status");
    area.setAttribute("aria-live", "polite");
  }
}
