/** Whose questions count together: the network of a client's address. */

/**
 * Of an IPv6 address its first 64 bits, in whichever spelling: the rest is for one client to choose. Any
 * other text is returned as it is.
 */
export function networkOf(text: string): string {
  const address = text.slice(0, MAX_CHARACTERS);
  if (!address.includes(':') || address.includes('.')) return address;
  const [head = '', tail] = address.split('::', 2);
  const groups = head === '' ? [] : head.split(':');
  const ofTail = tail === undefined || tail === '' ? [] : tail.split(':');
  const missing = tail === undefined ? 0 : Math.max(0, GROUPS - groups.length - ofTail.length);
  const all = [...groups, ...Array<string>(missing).fill('0'), ...ofTail];
  return all.slice(0, NETWORK_GROUPS).map(plainGroup).join(':');
}

/** The longest address there is, an IPv6 one that ends with an IPv4 one. What is longer is none. */
const MAX_CHARACTERS = 45;
const GROUPS = 8;
const NETWORK_GROUPS = 4;

/** `0DB8` and `db8` are the same. */
function plainGroup(group: string): string {
  return group.toLowerCase().replace(/^0+(?=.)/, '');
}
