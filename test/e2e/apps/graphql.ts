/** GraphQL over WebSocket (graphql-transport-ws): the session is the connection, and has no id. */
import {
  GraphQLInt,
  GraphQLNonNull,
  GraphQLObjectType,
  GraphQLSchema,
  GraphQLString,
} from 'graphql';
import { useServer } from 'graphql-ws/use/ws';
import { WebSocketServer } from 'ws';
import { respondJson, HERE, type Door } from './door.ts';

/** The count of one connection. */
interface Session {
  count: number;
}

const STEPS = 3;

export function createGraphQlDoor(): Door {
  const sockets = new WebSocketServer({ noServer: true });
  const sessions = new WeakMap<object, Session>();
  useServer(
    {
      schema: createSchema(),
      onConnect: ({ extra }) => void sessions.set(extra.socket, { count: 0 }),
      context: ({ extra }) => sessions.get(extra.socket),
    },
    sockets,
  );
  return {
    paths: ['/graphql'],
    handle: (_request, response) => respondJson(response, 426, { error: 'WebSocket only' }),
    upgrade: (request, socket, head) => {
      sockets.handleUpgrade(request, socket, head, (client) =>
        sockets.emit('connection', client, request),
      );
    },
  };
}

function createSchema(): GraphQLSchema {
  const text = { type: new GraphQLNonNull(GraphQLString) };
  const number = { type: new GraphQLNonNull(GraphQLInt) };
  const counted = new GraphQLObjectType({
    name: 'Counted',
    fields: { machine: text, pid: number, count: number },
  });
  const field = { type: counted };
  const count = (_root: unknown, _args: object, session: Session): object => ({
    ...HERE,
    count: (session.count += 1),
  });
  const steps = async function* (
    _root: unknown,
    _args: object,
    session: Session,
  ): AsyncGenerator<object> {
    for (let step = 1; step <= STEPS; step += 1) {
      yield await Promise.resolve({ steps: count(undefined, {}, session) });
    }
  };
  return new GraphQLSchema({
    query: new GraphQLObjectType({
      name: 'Query',
      fields: { count: { ...field, resolve: count } },
    }),
    subscription: new GraphQLObjectType({
      name: 'Subscription',
      fields: { steps: { ...field, subscribe: steps } },
    }),
  });
}
