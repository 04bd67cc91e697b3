/** What a listener does with its requests. */
import type { IncomingRequest } from './incoming-request.ts';
import type { MalformedRequest } from './request-head.ts';

export interface RequestHandler {
  /**
   * A head is complete. Must set a listener, or respond within the call: later the request may be over, as
   * the client has disconnected or its body is malformed.
   */
  handle(incoming: IncomingRequest): void;
  /** A head is malformed. Must respond within the call, and the connection ends with the response. */
  handleMalformed(incoming: IncomingRequest, why: MalformedRequest): void;
}
