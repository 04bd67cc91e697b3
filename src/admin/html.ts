/** HTML from templates that escape every value. */

/** Text that is HTML already. Made by {@link html} only, and from the files of the page. */
export class Html {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

/** Undefined, null and false are left out. */
type HtmlValue = string | number | Html | undefined | null | false | readonly HtmlValue[];

/** Every value is escaped, in text and in quoted attributes. No value may stand anywhere else in a tag. */
export function html(parts: TemplateStringsArray, ...values: readonly HtmlValue[]): Html {
  return new Html(parts.reduce((text, part, i) => text + formatValue(values[i - 1]) + part));
}

const ESCAPES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

function formatValue(value: HtmlValue): string {
  if (value instanceof Html) return value.text;
  if (value === undefined || value === null || value === false) return '';
  if (typeof value === 'object') return value.map(formatValue).join('');
  return String(value).replace(/[&<>"']/g, (character) => ESCAPES[character] ?? '');
}
