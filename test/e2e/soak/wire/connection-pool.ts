/** Connections that clients keep for their next request. */
import { wrong } from '../failure.ts';
import type { Machine } from '../machine.ts';
import { Connection } from './connection.ts';

const MAX_IDLE = 16;

export class ConnectionPool {
  readonly #idle = new Map<string, Connection[]>();

  /** A pooled connection, or a new one. */
  async take(machine: Machine): Promise<Connection> {
    const idle = this.#of(machine);
    for (let connection = idle.pop(); connection; connection = idle.pop()) {
      if (connection.hasUnread) throw wrong('bytes on an idle connection');
      if (connection.isOpen) return connection;
      connection.destroy();
    }
    return Connection.open(machine);
  }

  /** Call this when a response has ended that keeps the connection open. */
  give(connection: Connection): void {
    if (connection.hasUnread) throw wrong('bytes behind a response');
    const idle = this.#of(connection.machine);
    if (idle.length < MAX_IDLE) idle.push(connection);
    else connection.destroy();
  }

  closeAll(): void {
    for (const connection of [...this.#idle.values()].flat()) connection.destroy();
    this.#idle.clear();
  }

  #of({ name }: Machine): Connection[] {
    const known = this.#idle.get(name);
    if (known) return known;
    const made: Connection[] = [];
    this.#idle.set(name, made);
    return made;
  }
}
