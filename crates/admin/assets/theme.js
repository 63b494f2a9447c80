// The theme, chosen before anything is painted: what the reader chose here, or what their system prefers.
(() => {
  let theme = null;
  try {
    theme = localStorage.getItem("terrace-theme");
  } catch {
    // Storage may be forbidden; then the system's preference holds.
  }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
})();
