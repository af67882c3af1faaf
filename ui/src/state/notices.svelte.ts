/** Small things that are said in passing, and the one outside link that waits to be opened. */
class Notices {
  toast = $state.raw<{ text: string; id: number } | null>(null);
  /** Read out by the screen reader, never seen. */
  spoken = $state('');
  link = $state.raw<string | null>(null);
  #timer: ReturnType<typeof setTimeout> | undefined;
  #count = 0;

  say(text: string): void {
    clearTimeout(this.#timer);
    this.#count += 1;
    this.toast = { text, id: this.#count };
    this.#timer = setTimeout(() => {
      this.toast = null;
    }, 5000);
  }

  /** Another person may sign in next. */
  forget(): void {
    clearTimeout(this.#timer);
    this.toast = null;
    this.spoken = '';
    this.link = null;
  }

  speak(text: string): void {
    // The same sentence twice would not be a change, and so not be read.
    this.spoken = this.spoken === text ? `${text}\u00a0` : text;
  }
}

export const notices = new Notices();
