/**
 * The few parts of a browser's document that Engine.IO 3's client needs for JSONP: a script is loaded
 * and run, and a form is sent.
 */
import { runInThisContext } from 'node:vm';

/** Puts the document where the client looks for it, until `run` and all that it loads has ended. */
export async function withJsonpDocument(run: () => Promise<void>): Promise<void> {
  const document = new JsonpDocument();
  Object.assign(globalThis, { document });
  try {
    await run();
  } catch (error) {
    document.abort();
    throw error;
  } finally {
    await document.loaded();
    Reflect.deleteProperty(globalThis, 'document');
  }
}

class JsonpDocument {
  readonly #loads = new Set<Promise<void>>();
  readonly #aborter = new AbortController();
  #lastScript = createScript();
  readonly body = createParent((child) => {
    if ('src' in child) this.#add(this.#run(child as Script));
  });
  readonly head = this.body;

  getElementsByTagName(): readonly [] {
    return [];
  }

  createElement(name: string): object {
    if (name === 'form') return this.#createForm();
    if (name !== 'script') return {};
    this.#lastScript = createScript();
    return this.#lastScript;
  }

  /** Ends polls that a lost session has left open. */
  abort(): void {
    this.#aborter.abort();
  }

  async loaded(): Promise<void> {
    while (this.#loads.size > 0) await Promise.all(this.#loads);
  }

  #add(load: Promise<void>): void {
    this.#loads.add(load);
    void load.finally(() => this.#loads.delete(load));
  }

  async #run({ src, onerror }: Script): Promise<void> {
    const { signal } = this.#aborter;
    const response = await fetch(src, { signal }).catch(() => undefined);
    const script = await response?.text().catch(() => undefined);
    if (response?.status === 200 && script !== undefined) runInThisContext(script);
    else onerror(response?.status ?? 0);
  }

  /** It has a text area, and a frame that gets the response. */
  #createForm(): object {
    const children: FormChild[] = [];
    const form = {
      ...createParent((child) => children.push(child)),
      style: {},
      action: '',
      setAttribute: () => undefined,
      submit: () => this.#add(this.#send(form.action, children)),
    };
    return form;
  }

  async #send(action: string, children: readonly FormChild[]): Promise<void> {
    const area = children.find(({ value }) => value !== undefined);
    const frame = children.at(-1);
    const body = new URLSearchParams({ [area?.name ?? '']: area?.value ?? '' });
    const { signal } = this.#aborter;
    const status = await fetch(action, { method: 'POST', body, signal }).then(statusOf, () => 0);
    // A browser would hide the loss of a message, and the test would wait for ever.
    if (status !== 200) this.#lastScript.onerror(status);
    frame?.onload?.();
  }
}

interface FormChild {
  readonly name?: string;
  readonly value?: string;
  readonly onload?: () => void;
}

interface Script {
  src: string;
  onerror: (status: number) => void;
}

function createScript(): Script {
  return { src: '', onerror: () => undefined };
}

async function statusOf(response: Response): Promise<number> {
  await response.text();
  return response.status;
}

interface Parent {
  appendChild(child: { parentNode?: Parent }): void;
  removeChild(): void;
}

function createParent(onChild: (child: object) => void): Parent {
  const parent: Parent = {
    appendChild: (child) => {
      child.parentNode = parent;
      onChild(child);
    },
    removeChild: () => undefined,
  };
  return parent;
}
