/** The plans of the scripts of a run, the recorded events, and the findings. */
import type { RequestPlan, Script } from './script.ts';

interface Progress {
  readonly plan: RequestPlan;
  readonly script: Script;
  /** How often the app received its head. */
  seen: number;
  /** The app sent or aborted its response. */
  isAnswered: boolean;
}

export class ScriptWorld {
  readonly findings: string[] = [];
  readonly #progress = new Map<string, Progress>();
  readonly #wakers = new Map<string, () => void>();

  add(script: Script): void {
    for (const plan of script.requests) {
      this.#progress.set(plan.nonce, { plan, script, seen: 0, isAnswered: false });
    }
  }

  planOf(nonce: string): RequestPlan | undefined {
    return this.#progress.get(nonce)?.plan;
  }

  /** Records that the app received the head of a request. */
  onSeen(nonce: string): void {
    const progress = this.#progress.get(nonce);
    if (!progress) {
      this.findings.push(`the app has seen a request that no client has sent: ${nonce}`);
      return;
    }
    const { plan, script } = progress;
    progress.seen += 1;
    this.#wakers.get(nonce)?.();
    const most = plan.method === 'POST' ? 1 : 2;
    if (progress.seen > most) this.report(script, `request ${nonce} came ${progress.seen} times`);
    for (const earlier of script.requests.slice(0, script.requests.indexOf(plan))) {
      const before = this.#progress.get(earlier.nonce);
      if (before && before.seen > 0 && !before.isAnswered) {
        this.report(script, `request ${nonce} came before the response to ${earlier.nonce}`);
      }
    }
  }

  onAnswered(nonce: string): void {
    const progress = this.#progress.get(nonce);
    if (progress) progress.isAnswered = true;
  }

  /** Resolves when the app has received it. */
  async untilSeen(nonce: string): Promise<void> {
    if ((this.#progress.get(nonce)?.seen ?? 0) > 0) return;
    await new Promise<void>((resolve) => this.#wakers.set(nonce, resolve));
  }

  report(script: Script, what: string): void {
    this.findings.push(`script ${script.number}: ${what}, ${JSON.stringify(script)}`);
  }
}
