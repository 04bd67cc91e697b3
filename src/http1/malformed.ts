/** What came is no HTTP/1.1 answer, or one that could be read in two ways. Quotes nothing of it. */
export class MalformedAnswer extends Error {
  override readonly name = 'MalformedAnswer';
}

/** The request can't be sent as it is. Quotes nothing of it. */
export class MalformedRequest extends Error {
  override readonly name = 'MalformedRequest';
}
