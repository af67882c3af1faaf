export type Theme = 'light' | 'dark' | 'system';

const KEY = 'aico.theme';

class ThemeChoice {
  choice = $state<Theme>(read());

  choose(theme: Theme): void {
    this.choice = theme;
    if (theme === 'system') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    try {
      if (theme === 'system') localStorage.removeItem(KEY);
      else localStorage.setItem(KEY, theme);
    } catch {
      // Without storage the choice lasts until the page is closed.
    }
  }
}

function read(): Theme {
  const set = document.documentElement.dataset.theme;
  return set === 'light' || set === 'dark' ? set : 'system';
}

export const theme = new ThemeChoice();
