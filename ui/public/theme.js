// Sets the chosen theme before the first paint. It is a file of its own because the page's policy
// forbids inline scripts, and a module would run too late.
try {
  const theme = localStorage.getItem('aico.theme');
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
} catch {
  // Storage may be switched off; the system's theme is used then.
}
