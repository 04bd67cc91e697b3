/** Whose requests count together: those of one address, or of the network that one client has to itself. */

/** The longest address there is, an IPv6 one that ends with an IPv4 one. What is longer is none. */
const MAX_CHARS = 45;
const GROUPS = 8;
const GROUPS_OF_NETWORK = 4;

/** Of an IPv6 address its first 64 bits, however it is abbreviated: the rest is for one client to choose. */
export function networkOf(text: string): string {
  const address = text.slice(0, MAX_CHARS);
  if (!address.includes(':') || address.includes('.')) return address;
  const [before = '', after] = address.split('::', 2);
  const first = groupsOf(before);
  const last = groupsOf(after ?? '');
  const left = after === undefined ? 0 : Math.max(GROUPS - first.length - last.length, 0);
  const zeros = new Array<string>(left).fill('0');
  return [...first, ...zeros, ...last].slice(0, GROUPS_OF_NETWORK).join(':');
}

function groupsOf(text: string): string[] {
  return text === '' ? [] : text.split(':');
}
