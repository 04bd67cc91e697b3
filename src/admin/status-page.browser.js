/*
 * The script of the status page, in the page itself. Every two seconds it reads the page again and changes what
 * differs, so that scroll position, focus, selection and typed text stay. It looks up a session by the key of
 * its id.
 */
'use strict';

(() => {
  const REFRESH_MS = 2000;
  const TIMEOUT_MS = 5000;

  const main = document.querySelector('main');
  const live = document.querySelector('.live');
  const form = document.querySelector('form');
  const result = document.getElementById('result');
  let lastSeen = '';
  let timer;

  function headers() {
    const token = form?.elements.token.value.trim();
    return token ? { authorization: `Bearer ${token}` } : {};
  }

  function say(text, isLost) {
    if (live.textContent !== text) live.textContent = text;
    live.classList.toggle('is-lost', isLost);
  }

  async function refresh() {
    clearTimeout(timer);
    try {
      const response = await fetch('/', {
        headers: headers(),
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      if (!response.ok) throw new Error(`status ${response.status}`);
      const page = new DOMParser().parseFromString(await response.text(), 'text/html');
      morph(main, page.querySelector('main'));
      document.title = page.title;
      lastSeen = new Date().toLocaleTimeString();
      say(`Live, ${lastSeen}`, false);
    } catch {
      say(`No response since ${lastSeen || 'the page was opened'}: trying again`, true);
    }
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(refresh, REFRESH_MS);
  }

  /** Makes `old` like `new`, and leaves alone what is equal, or marked with data-keep. */
  function morph(old, next) {
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== next.data) old.data = next.data;
      return;
    }
    if ('keep' in old.dataset && 'keep' in next.dataset) return;
    for (const { name } of [...old.attributes])
      if (!next.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of next.attributes)
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    const before = [...old.childNodes];
    const after = [...next.childNodes];
    after.forEach((child, i) => {
      const present = before[i];
      if (present === undefined) old.append(child);
      else if (present.nodeName === child.nodeName) morph(present, child);
      else present.replaceWith(child);
    });
    for (const extra of before.slice(after.length)) extra.remove();
  }

  async function lookUp(event) {
    event.preventDefault();
    const id = form.elements.id.value.trim();
    void refresh();
    if (id === '') {
      result.textContent = '';
      return;
    }
    result.textContent = 'Looking up …';
    try {
      const found = [];
      for (const key of keysOf(id)) {
        const session = await find(key);
        if (session) found.push(session);
      }
      result.textContent = found.length === 0 ? NOT_FOUND : found.map(describe).join(' ');
    } catch (error) {
      result.textContent = error.message;
    }
  }

  const NOT_FOUND = 'No such session: it was never bound, has expired, or was deleted.';

  async function find(key) {
    const response = await fetch(`/sessions/${key}`, {
      headers: headers(),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    }).catch(() => {
      throw new Error('The sidecar does not respond.');
    });
    if (response.status === 404) return undefined;
    if (response.status === 401) throw new Error('The token is wrong.');
    if (!response.ok) throw new Error('The session store fails: try again.');
    return response.json();
  }

  function describe({ key, owner, origin, generation, createdAt, expiresAt }) {
    const age = duration(Date.now() - createdAt);
    const left = duration(expiresAt - Date.now());
    return `Session ${key.slice(0, 8)}… belongs to Machine ${owner} (${origin}, generation ${generation}), is ${age} old and expires in ${left} unless it is used.`;
  }

  function duration(ms) {
    const seconds = Math.max(0, Math.round(ms / 1000));
    if (seconds < 120) return `${seconds} s`;
    const minutes = Math.round(seconds / 60);
    if (minutes < 120) return `${minutes} min`;
    const hours = Math.round(minutes / 60);
    return hours < 48 ? `${hours} h` : `${Math.round(hours / 24)} days`;
  }

  /** Of the whole id, and of the id without its owner hint if it may have one. As `sessions get` does. */
  function keysOf(id) {
    const hinted = /^(.+)~[a-z0-9]{1,32}$/s.exec(id);
    return [id, ...(hinted ? [hinted[1]] : [])].map(keyOf);
  }

  /** As `sessionKeyOf` in session.ts. */
  function keyOf(id) {
    const bytes = new TextEncoder().encode(id.replaceAll(' ', '+'));
    return sha256(bytes).slice(0, 32);
  }

  /*
   * SHA-256 (FIPS 180-4) as hex digits. `crypto.subtle` exists in secure contexts only: on localhost, but not at
   * the private address of a Machine over http.
   */
  const PRIMES = [];
  for (let n = 2; PRIMES.length < 64; n += 1) if (PRIMES.every((p) => n % p !== 0)) PRIMES.push(n);
  const fraction = (x) => ((x - Math.floor(x)) * 2 ** 32) | 0;
  const ROUND = PRIMES.map((p) => fraction(Math.cbrt(p)));
  const START = PRIMES.slice(0, 8).map((p) => fraction(Math.sqrt(p)));

  function sha256(bytes) {
    const length = Math.ceil((bytes.length + 9) / 64) * 64;
    const padded = new Uint8Array(length);
    padded.set(bytes);
    padded[bytes.length] = 0x80;
    const view = new DataView(padded.buffer);
    view.setUint32(length - 8, Math.floor(bytes.length / 2 ** 29));
    view.setUint32(length - 4, (bytes.length * 8) >>> 0);
    const hash = [...START];
    for (let at = 0; at < length; at += 64) addBlock(hash, view, at);
    return hash.map((word) => (word >>> 0).toString(16).padStart(8, '0')).join('');
  }

  function addBlock(hash, view, at) {
    const w = Array.from({ length: 16 }, (_, i) => view.getUint32(at + i * 4) | 0);
    let [a, b, c, d, e, f, g, h] = hash;
    for (let i = 0; i < 64; i += 1) {
      if (i >= 16) {
        const [x, y] = [w[i - 15], w[i - 2]];
        const s0 = rotate(x, 7) ^ rotate(x, 18) ^ (x >>> 3);
        const s1 = rotate(y, 17) ^ rotate(y, 19) ^ (y >>> 10);
        w[i] = (w[i - 16] + s0 + w[i - 7] + s1) | 0;
      }
      const s1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
      const t1 = (h + s1 + ((e & f) ^ (~e & g)) + ROUND[i] + w[i]) | 0;
      const s0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
      const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + t1) | 0, c, b, a, (t1 + t2) | 0];
    }
    [a, b, c, d, e, f, g, h].forEach((word, i) => (hash[i] = (hash[i] + word) | 0));
  }

  function rotate(word, bits) {
    return (word >>> bits) | (word << (32 - bits));
  }

  form?.addEventListener('submit', (event) => void lookUp(event));
  form?.elements.token.addEventListener('change', () => void refresh());
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden) void refresh();
  });
  document.getElementById('hashed')?.removeAttribute('hidden');
  void refresh();
})();
