import { problemText } from '../i18n/problem';

/** What a page does at a person's word, and what went wrong with the last of it. */
export class Work {
  /** In words; empty where nothing did. */
  problem = $state('');

  /** Does it, and takes away what was told before. What it fails with is told and not thrown. */
  async told(work: () => Promise<void>): Promise<void> {
    this.problem = '';
    try {
      await work();
    } catch (error) {
      this.problem = problemText(error);
    }
  }
}
