/** What the tests use of dns-packet, which comes without types. */
declare module 'dns-packet' {
  export interface Question {
    readonly name: string;
    readonly type: string;
  }
  export interface Answer extends Question {
    readonly ttl: number;
    readonly data: string | readonly string[];
  }
  export interface Packet {
    readonly type: 'query' | 'response';
    readonly id: number;
    /** Header flags and response code, RFC 1035 §4.1.1. */
    readonly flags: number;
    readonly questions: readonly Question[];
    readonly answers: readonly Answer[];
  }
  export function decode(message: Buffer): Packet;
  export function encode(packet: Packet): Buffer;
}
